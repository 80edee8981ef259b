"""What is sent to the scripts of read/write locks, and what their replies mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiodistlock.core.fencing import BEYOND
from aiodistlock.core.keys import LockKeys
from aiodistlock.protocol.answers import (
    AcquireReply,
    Downgraded,
    DowngradeReply,
    UpgradeReply,
)
from aiodistlock.protocol.operations import (
    GONE,
    OTHER,
    QUEUE_TTL_MS,
    Operations,
    OtherShape,
    read_acquire,
)
from aiodistlock.protocol.redis_call import RedisCall
from aiodistlock.protocol.scripts import Script, bulks

# Codes of prelude.lua.
_DONE = 4
_NOT_OURS = {5: GONE, 6: OTHER}


def acquire_by(  # noqa: PLR0917  # as Operations.acquire
    script: Script,
    operations: Operations,
    keys: LockKeys,
    token: bytes,
    ttl_ms: int,
    inbox: bytes,
    grant_ttl_ms: int,
    on_reply: Callable[[AcquireReply], object],
) -> RedisCall[AcquireReply]:
    """Hold as a reader or as a writer, by its script, or queue for that."""
    rest = bulks(token, ttl_ms, inbox, grant_ttl_ms, QUEUE_TTL_MS)
    return RedisCall(script, keys, operations.counter_of(keys) + rest, read_acquire, on_reply)


def upgrade(  # noqa: PLR0917  # as Operations.acquire
    operations: Operations,
    keys: LockKeys,
    reader: bytes,
    token: bytes,
    ttl_ms: int,
    inbox: bytes,
    grant_ttl_ms: int,
    on_reply: Callable[[UpgradeReply], object],
) -> RedisCall[UpgradeReply]:
    """Make a reader the writer, or queue for that in front of all."""
    rest = bulks(reader, token, ttl_ms, inbox, grant_ttl_ms, QUEUE_TTL_MS)
    args = operations.counter_of(keys) + rest
    return RedisCall(operations.scripts.upgrade, keys, args, read_upgrade, on_reply)


def downgrade(  # noqa: PLR0917  # as Operations.acquire
    operations: Operations,
    keys: LockKeys,
    token: bytes,
    reader: bytes,
    ttl_ms: int,
    highest: int,
    inbox: bytes = b"",
    grant_ttl_ms: int = 0,
) -> RedisCall[DowngradeReply]:
    """
    Make the writer a reader; or take back that a reader wants to be the writer.

    :param highest: highest fencing token used, 0: that with which the lease began
    :param inbox: "<channel> <secret>", ``b""``: it is in no queue
    """
    rest = bulks(token, reader, ttl_ms, highest, inbox, grant_ttl_ms)
    args = operations.counter_of(keys) + rest
    return RedisCall(operations.scripts.downgrade, keys, args, read_downgrade)


def read_upgrade(reply: list[Any], sent_at: float) -> UpgradeReply:
    """Read the answer of ``upgrade.lua``."""
    if reply[0] in _NOT_OURS:
        _code, _tag = reply
        return _NOT_OURS[reply[0]]
    return read_acquire(reply, sent_at)


def read_downgrade(reply: list[Any], sent_at: float) -> DowngradeReply:
    """Read the answer of ``downgrade.lua``."""
    if reply[0] in _NOT_OURS:
        _code, _tag = reply
        return _NOT_OURS[reply[0]]
    code, _tag, version = reply
    if code != _DONE or type(version) is not int or not 0 < version < BEYOND:
        raise OtherShape
    return Downgraded(version, sent_at)
