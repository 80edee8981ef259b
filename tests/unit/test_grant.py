"""Messages in the inbox: grants, and whatever anybody else publishes there."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiodistlock.engine.inbox import Grant, read_grant


def test_a_grant_is_read() -> None:
    """The five fields are those that the scripts write; the key comes last, whole."""
    message = b"1700000000000001 1700000000000000 1500 host:1:ab:1 lock:a b c"
    assert read_grant(message) == Grant(
        1_700_000_000_000_001, 1_700_000_000_000_000, 1.5, b"host:1:ab:1", b"lock:a b c"
    )


@given(st.integers(0, 2**53), st.integers(0, 2**53), st.integers(1, 10**9), st.binary(min_size=1))
def test_a_key_may_have_any_bytes(fence: int, server_us: int, ttl_ms: int, key: bytes) -> None:
    """A key with spaces or line ends in it does not confuse the other fields."""
    grant = read_grant(b"%d %d %d token %s" % (fence, server_us, ttl_ms, key))
    assert grant == Grant(fence, server_us, ttl_ms / 1000, b"token", key)


@pytest.mark.parametrize(
    "message",
    [b"", b"hello", b"1 2 3 token", b"x 2 3 token key", b"1 y 3 token key", b"1 2 z token key"],
)
def test_garbage_is_ignored_with_a_warning(
    message: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """What is no grant is dropped, and logged, since nobody should publish there."""
    with caplog.at_level(logging.WARNING, "aiodistlock"):
        assert read_grant(message) is None
    assert "no grant" in caplog.text


@given(st.binary(max_size=60))
def test_no_message_does_harm(message: bytes) -> None:
    """Whatever bytes are published, reading them raises nothing."""
    grant = read_grant(message)
    assert grant is None or isinstance(grant, Grant)
