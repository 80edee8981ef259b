"""Replies as bytes, in RESP2 and RESP3."""

from typing import Any

from tests.simulation.redis.keyspace import Refusal, Status


class Push(list[Any]):
    """What pub/sub delivers: an array in RESP2, a push in RESP3."""


def encode(value: Any, *, resp3: bool) -> bytes:
    """Return a reply as bytes."""
    kind = type(value)
    if kind is bytes:
        return b"$%d\r\n%b\r\n" % (len(value), value)
    if kind is int:
        return b":%d\r\n" % value
    if kind is list or kind is Push:
        head = b">" if kind is Push and resp3 else b"*"
        return b"%b%d\r\n" % (head, len(value)) + b"".join(
            [encode(each, resp3=resp3) for each in value]
        )
    if value is None:
        return b"_\r\n" if resp3 else b"$-1\r\n"
    if kind is Status:
        return b"+%b\r\n" % value.text
    if kind is Refusal:
        return b"-%b\r\n" % value.text
    assert kind is dict, value
    head = b"%%%d\r\n" % len(value) if resp3 else b"*%d\r\n" % (2 * len(value))
    return head + b"".join([encode(each, resp3=resp3) for pair in value.items() for each in pair])
