"""Keys built from names: in one hash slot, or refused."""

from typing import Any

import pytest
from hypothesis import example, given, reject
from hypothesis import strategies as st
from redis.crc import key_slot

from aiodistlock.core.keys import RESERVED, LockKeys, fence_key, hash_tag, key_of

# Braces often, so that tags, stray and empty braces all occur.
names = st.text(st.sampled_from("{}ab:é "), min_size=1, max_size=12) | st.text(min_size=1)

# Parts of keys and of companions, so that one is often within, or the end of, another.
parts = st.sampled_from(
    ["aiodistlock:", "aiodistlock", "fence", "queue", "marker", ":", "::", "{", "}", "a", "{a}"]
)
namespaces = st.sampled_from(["lock:", "", "{app}:", "{a}", "a", "{", "aiodist", ":"])


@st.composite
def all_keys(draw: st.DrawFn) -> LockKeys:
    """Any lock of any namespace."""
    name = draw(names | st.lists(parts, min_size=1, max_size=6).map("".join))
    try:
        return LockKeys(name, draw(namespaces))
    except ValueError:
        reject()


def _companions(keys: LockKeys) -> set[bytes]:
    return {keys.queue}


@given(names, st.sampled_from(["lock:", "", "{app}:", "app}:", "{", "x{}"]) | st.text(max_size=5))
@example("a}b{c}", "")
@example("{}{a}", "")
@example("{{a}}", "lock:")
def test_all_keys_of_a_name_share_a_slot(name: str, namespace: str) -> None:
    """Key and companions hash to one slot by Redis' own rule, or the name is refused."""
    try:
        keys = LockKeys(name, namespace)
    except ValueError:
        # Only braces that are no tag, or text that cannot be encoded, are refused.
        text = namespace + name
        assert text.startswith(RESERVED) or hash_tag(text) is None
        assert "{" in text or "}" in text or not _encodes(text) or text.startswith(RESERVED)
        return
    assert keys.key == (namespace + name).encode()
    assert key_slot(keys.key) == key_slot(keys.queue) == key_slot(fence_key(keys.slot))
    assert len({keys.key, keys.queue, fence_key(keys.slot)}) == 3


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _lock(key: str) -> LockKeys:
    return LockKeys(key, "")


@given(all_keys(), all_keys())
@example(_lock("cart"), _lock("{cart}"))
@example(_lock("{a}{b}"), _lock("{a}:{a}{b}"))
@example(_lock(":{a}"), _lock("{a}"))
@example(_lock("{a}:queue"), _lock("{a}"))
@example(_lock("{aiodistlock:fence:{a}"), _lock("a"))
@example(_lock("{app}:n"), LockKeys("n", "{app}:"))
def test_no_two_locks_share_a_key(one: LockKeys, other: LockKeys) -> None:
    """Whatever the namespaces: other keys, other companions; and no key is a companion."""
    assert one.key not in _companions(other)
    assert other.key not in _companions(one)
    if one.key == other.key:
        assert _companions(one) == _companions(other)
    else:
        assert _companions(one).isdisjoint(_companions(other))


@given(all_keys())
def test_each_companion_tells_its_key(keys: LockKeys) -> None:
    """The key stands in it whole; and a key is no companion."""
    for companion in _companions(keys):
        assert key_of(companion.decode()) == keys.key.decode()
    assert key_of(keys.key.decode()) is None


@pytest.mark.parametrize(
    ("name", "namespace"),
    [
        ("aiodistlock:fence:{x}", ""),
        ("aiodistlock:queue::{x}", ""),
        ("aiodistlock:marker", ""),
        ("aiodistlock:", ""),
        ("x", "aiodistlock:"),
        ("{x}", "aiodistlock:mine:"),
        ("lock:x", "aiodist"),
    ],
)
def test_what_begins_as_a_companion_is_refused(name: str, namespace: str) -> None:
    """The error names the reserved prefix."""
    with pytest.raises(ValueError, match="'aiodistlock:', which is reserved"):
        LockKeys(name, namespace)


@pytest.mark.parametrize("key", ["aiodistlock", "aiodistlock-doctor:1", "AIODISTLOCK:x", "x:fence"])
def test_what_only_resembles_a_companion_is_a_name(key: str) -> None:
    """The prefix is reserved as it is, and nothing else."""
    assert _lock(key).key == key.encode()


@pytest.mark.parametrize(
    ("name", "key", "queue"),
    [
        ("wallet:42", b"lock:wallet:42", b"aiodistlock:queue:{lock:wallet:42}"),
        ("{user:7}:cart", b"lock:{user:7}:cart", b"aiodistlock:queue::lock:{user:7}:cart"),
        ("Zürich", "lock:Zürich".encode(), "aiodistlock:queue:{lock:Zürich}".encode()),
    ],
)
def test_what_stands_in_redis(name: str, key: bytes, queue: bytes) -> None:
    """The key is namespace and name; companions have it behind their own beginning."""
    keys = LockKeys(name, "lock:")
    assert keys.key == key
    assert keys.queue == queue


def test_the_fence_counter_is_no_names() -> None:
    """One on a server; on a cluster and a quorum one in each hash slot."""
    assert fence_key(None) == b"aiodistlock:fence"
    assert {key_slot(fence_key(slot)) for slot in range(0, 16_384, 97)} == set(range(0, 16_384, 97))


@pytest.mark.parametrize("name", ["a{b", "a}b", "{}", "a{}b", "}{", "{}{a}", "{"])
def test_stray_braces_are_refused(name: str) -> None:
    """Braces that are no hash tag are a ``ValueError`` that says what to write."""
    with pytest.raises(ValueError, match=r"\{user:7\}:cart"):
        LockKeys(name, "lock:")


@pytest.mark.parametrize("name", ["", None, 7, b"wallet", ["a"], "\ud800"])
def test_a_bad_name_is_refused(name: Any) -> None:
    """A name is non-empty text that can be encoded."""
    with pytest.raises(ValueError, match="name"):
        LockKeys(name, "lock:")


@pytest.mark.parametrize("namespace", [None, 7, b"lock:"])
def test_a_bad_namespace_is_refused(namespace: Any) -> None:
    """A namespace is text; it may be empty."""
    with pytest.raises(ValueError, match="namespace"):
        LockKeys("wallet", namespace)
    assert LockKeys("wallet", "").key == b"wallet"
