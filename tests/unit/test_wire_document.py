"""What docs/wire.md says of keys and messages is so."""

import re
from pathlib import Path

import pytest

from aiodistlock.core.keys import LockKeys, fence_key
from aiodistlock.protocol import operations, scripts
from aiodistlock.protocol.grant_message import WIRE, Grant, prove, read_grant

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "wire.md").read_text()
EDITIONS = ROOT / "tests" / "deployments" / "editions"


def test_one_edition_is_told_written_and_read() -> None:
    """By the document, by the scripts and by the client."""
    assert DOCUMENT.startswith(f"# The wire: edition {WIRE.decode()}\n")
    assert re.search(r"^\| (\d+) \| this one \|$", DOCUMENT, re.MULTILINE)[1] == WIRE.decode()  # type: ignore[index]
    assert f"local WIRE = '{WIRE.decode()}'\n".encode() in scripts.RELEASE.source


def test_this_edition_is_kept_before_there_is_another() -> None:
    """Its scripts and its process stand beside those of the editions before."""
    kept = sorted(int(path.name) for path in EDITIONS.iterdir() if path.name.isdigit())
    assert kept == list(range(2, int(WIRE) + 1))
    for edition in kept:
        process = (EDITIONS / f"edition_{edition}.py").read_text()
        # The package goes on, and what is kept must not go with it.
        assert not re.search(r"^\s*(from|import) aiodistlock", process, re.MULTILINE)
        assert (EDITIONS / str(edition) / "prelude.lua").is_file()


@pytest.mark.parametrize("key", ["lock:wallet", "lock:{user:7}"])
def test_the_keys_are_those_of_the_document(key: str) -> None:
    """Of a lock, and of the node of a quorum; and none is left out."""
    keys, told = (
        LockKeys(key, namespace=""),
        set(re.findall(r"^\| `([^`]+)`", DOCUMENT, re.MULTILINE)),
    )
    braces = f"{{{key}}}" if "{" not in key else f":{key}"
    readers = (keys.readers, keys.version)
    for beside in (fence_key(None), keys.queue, keys.done, keys.proclamation, *readers):
        assert beside.decode() in {each.replace("{<key>}", braces) for each in told}
    assert operations.MARKER.decode() in told
    assert len(told) == 9
    assert keys.queue.decode() in DOCUMENT


def test_a_message_is_as_the_document_lays_it_out() -> None:
    """Its words in that order, the proof over all that follow it."""
    (layout,) = re.findall(r"^    (<proof> .*)$", DOCUMENT, re.MULTILINE)
    words = {"edition": "2", "fence": "17", "server time in µs": "16", "ttl in ms": "1000"}
    words |= {"token": "host:1:00000000:1", "key": "lock:a b"}
    message = layout.removeprefix("<proof> ")
    for word, value in words.items():
        message = message.replace(f"<{word}>", value)
    payload = prove(message.encode(), b"secret") + b" " + message.encode()
    assert read_grant(payload, b"secret") == Grant(17, 16, 1.0, b"host:1:00000000:1", b"lock:a b")
