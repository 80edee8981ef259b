"""How calls are divided into batches, and what the batch's script is made of."""

import re
from string import ascii_lowercase, digits

import pytest

from aiodistlock.core.keys import LockKeys
from aiodistlock.protocol import scripts
from aiodistlock.protocol.batch import Batch, divided
from aiodistlock.protocol.operations import Operations
from aiodistlock.protocol.redis_call import RedisCall
from aiodistlock.protocol.scripts import MOST_TOGETHER
from tests.resp import flat_blobs

OPERATIONS = Operations()


def calls(names: str) -> list[RedisCall[object]]:
    """Make a call for each letter: a capital is of a kind that goes alone."""
    return [
        OPERATIONS.inspect(LockKeys(name, "")) if name.isupper()  # type: ignore[misc]
        else OPERATIONS.release(LockKeys(name, ""), b"token", 0)
        for name in names
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        ("", []),
        ("a", ["a"]),
        ("A", ["A"]),
        ("abc", ["abc"]),
        ("aa", ["a", "a"]),
        ("abcab", ["abc", "ab"]),
        ("abAab", ["ab", "A", "ab"]),
        ("AB", ["A", "B"]),
        ("aBb", ["a", "B", "b"]),
        ("aaab", ["a", "a", "ab"]),
    ],
)
def test_a_name_that_comes_again_begins_the_next_batch(names: str, parts: list[str]) -> None:
    """All stay in order, and what goes alone is between those before and behind it."""
    found = ["".join(call.keys.name for call in part) for part in divided(calls(names))]
    assert [part for part in found if part] == parts


@pytest.mark.parametrize("source", [False, True])
@pytest.mark.parametrize("count", [2, 3, MOST_TOGETHER])
def test_a_batch_is_one_well_formed_request(count: int, source: bool) -> None:
    """Keys, letters, arguments and one tag; with the source, all of it."""
    together = calls((ascii_lowercase + digits)[:count])
    for number, call in enumerate(together):
        call.tag = 10**12 + number
    batch = Batch(together, sourced=source)
    raw = batch.packed_in_full(scripts.bulks(b"void"), 7, source=source)
    command, script, keys, *rest = flat_blobs(raw)
    assert raw.startswith(b"*%d\r\n" % (3 + len(rest)))
    assert (command, script) == (
        (b"EVAL", scripts.BATCH.source) if source else (b"EVALSHA", scripts.BATCH.sha)
    )
    assert rest[int(keys) - 2 : int(keys)] == [b"void", b"aiodistlock:fence"]
    assert rest[: int(keys) - 2 : 2] == [call.keys.key for call in together]
    assert rest[int(keys) :: 4][:count] == [b"r"] * count
    assert rest[-1] == b"1000000000000 7"


def test_every_key_and_argument_in_a_batch_is_an_items_own() -> None:
    """What the scripts find by a fixed place is found from the item's place."""
    source = re.sub(r"--.*", "", scripts.BATCH.source.decode())
    assert re.findall(r"(?:KEYS|ARGV)\[\d+\]", source) == []
