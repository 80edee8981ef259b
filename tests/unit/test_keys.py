"""Keys built from names: in one hash slot, or refused."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from redis.crc import key_slot

from aiodistlock.core.keys import LockKeys, hash_tag

# Braces often, so that tags, stray and empty braces all occur.
names = st.text(st.sampled_from("{}ab:é "), min_size=1, max_size=12) | st.text(min_size=1)


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
        assert hash_tag(text) is None
        assert "{" in text or "}" in text or not _encodes(text)
        return
    assert keys.key == (namespace + name).encode()
    assert key_slot(keys.key) == key_slot(keys.fence) == key_slot(keys.queue)
    assert len({keys.key, keys.fence, keys.queue}) == 3


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@given(names, names)
def test_names_do_not_share_keys(one: str, other: str) -> None:
    """Different names have different companions, too."""
    try:
        first, second = LockKeys(one, "lock:"), LockKeys(other, "lock:")
    except ValueError:
        return
    if one != other:
        assert {first.fence, first.queue}.isdisjoint({second.fence, second.queue})


@pytest.mark.parametrize(
    ("name", "key", "fence"),
    [
        ("wallet:42", b"lock:wallet:42", b"{lock:wallet:42}:fence"),
        ("{user:7}:cart", b"lock:{user:7}:cart", b"lock:{user:7}:cart:fence"),
        ("Zürich", "lock:Zürich".encode(), "{lock:Zürich}:fence".encode()),
    ],
)
def test_what_stands_in_redis(name: str, key: bytes, fence: bytes) -> None:
    """The key is namespace and name; companions carry it as a hash tag."""
    keys = LockKeys(name, "lock:")
    assert keys.key == key
    assert keys.fence == fence
    assert keys.queue == fence.replace(b"fence", b"queue")


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
