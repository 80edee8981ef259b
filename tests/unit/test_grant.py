"""Messages in the inbox: grants, and whatever anybody else publishes there."""

import logging

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aiodistlock.protocol.grant_message import Grant, OtherWire, prove, read_grant

SECRET = b"x5_-Zq"


def proven(message: bytes, secret: bytes = SECRET) -> bytes:
    """Return a message as a script publishes it."""
    message = b"2 " + message
    return b"%b %b" % (prove(message, secret), message)


def test_a_grant_is_read() -> None:
    """The five fields are those that the scripts write; the key comes last, whole."""
    message = b"1700000000000001 1700000000000000 1500 host:1:ab:1 lock:a b c"
    assert read_grant(proven(message), SECRET) == Grant(
        1_700_000_000_000_001, 1_700_000_000_000_000, 1.5, b"host:1:ab:1", b"lock:a b c"
    )


@given(st.integers(0, 2**53), st.integers(0, 2**53), st.integers(1, 10**9), st.binary(min_size=1))
def test_a_key_may_have_any_bytes(fence: int, server_us: int, ttl_ms: int, key: bytes) -> None:
    """A key with spaces or line ends in it does not confuse the other fields."""
    grant = read_grant(proven(b"%d %d %d token %s" % (fence, server_us, ttl_ms, key)), SECRET)
    assert grant == Grant(fence, server_us, ttl_ms / 1000, b"token", key)


@pytest.mark.parametrize(
    "message",
    [
        *(b"", b"hello", b"1 2 3 token", b"x 2 3 token key", b"1 y 3 token key"),
        *(b"1 2 z token key", b"-1 2 3 token key", b"1_0 2 3 token key", b"+1 2 3 token key"),
        *(b"9" * 5000 + b" 2 3 token key", b"1 " + b"9" * 400 + b" 3 token key"),
        *(b"1 2 " + b"9" * 400 + b" token key", b"inf nan 3 token key", b"1e3 2 3 token key"),
    ],
)
@pytest.mark.parametrize("proof", [True, False])
def test_garbage_is_ignored_with_a_warning(
    message: bytes, proof: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """What is no grant is dropped, proven or not, and its beginning is logged."""
    with caplog.at_level(logging.WARNING, "aiodistlock"):
        assert read_grant(proven(message) if proof else message, SECRET) is None
    assert "no grant" in caplog.text
    assert len(caplog.text) < 600


@pytest.mark.parametrize("wire", [b"1", b"3", b"9999"])
def test_a_script_of_another_edition_is_told_from_a_stranger(wire: bytes) -> None:
    """Only the former raises: whoever cannot prove it changes nothing."""
    message = wire + b" whatever that says"
    with pytest.raises(OtherWire, match=f"edition {wire.decode()} of the wire, where 2 is known"):
        read_grant(b"%b %b" % (prove(message, SECRET), message), SECRET)
    assert read_grant(b"%b %b" % (prove(message, b"guess"), message), SECRET) is None
    for none in (b"0" + wire, b"-" + wire, wire + b"0000", b""):
        message = none + b" whatever"
        assert read_grant(b"%b %b" % (prove(message, SECRET), message), SECRET) is None


@given(st.binary(max_size=60))
def test_no_message_does_harm(message: bytes) -> None:
    """Whatever bytes are published, reading them raises nothing."""
    for payload in (message, proven(message)):
        grant = read_grant(payload, SECRET)
        assert grant is None or isinstance(grant, Grant)


@given(st.data())
@example(None)
def test_no_other_message_has_the_proof_of_a_grant(data: st.DataObject | None) -> None:
    """Other words, another secret, or none: not one sign of it may be another."""
    payload = proven(b"17 16 1000 host:1:ab:1 lock:a")
    assert read_grant(payload, SECRET) is not None
    assert read_grant(payload, b"") is None
    assert read_grant(payload, SECRET[:-1]) is None
    assert read_grant(payload + b" " + SECRET, SECRET) is None
    assert read_grant(payload.partition(b" ")[2], SECRET) is None
    if data is not None:
        at = data.draw(st.integers(0, len(payload) - 1))
        sign = data.draw(st.integers(0, 255).filter(lambda sign: sign != payload[at]))
        assert read_grant(payload[:at] + bytes([sign]) + payload[at + 1 :], SECRET) is None
