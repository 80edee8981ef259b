"""What is sent to ``look.lua`` and ``mark.lua``, and what is answered; see ``operations.py``."""

from __future__ import annotations

from typing import Any

from aiodistlock.core.escaping import bounded
from aiodistlock.core.keys import LockKeys
from aiodistlock.core.mark import read_mark
from aiodistlock.core.value import read_value
from aiodistlock.protocol import scripts
from aiodistlock.protocol.answers import (
    AlreadyMarked,
    BeginReply,
    Done,
    Looked,
    LookReply,
    NotOurs,
    ReleaseReply,
)
from aiodistlock.protocol.marks import Ending
from aiodistlock.protocol.operations import Operations, OtherShape, read_release
from aiodistlock.protocol.redis_call import RedisCall
from aiodistlock.protocol.scripts import bulks

_HELD = 3  # see prelude.lua


def look(keys: LockKeys) -> RedisCall[LookReply]:
    """Ask what time it is, who holds the name, and what was done last."""
    return RedisCall(scripts.LOOK, keys, bulks(keys.done), read_look)


def begin(
    operations: Operations, keys: LockKeys, value: bytes, window_us: int, mark_ttl_ms: int
) -> RedisCall[BeginReply]:
    """Mark a window as begun, under our lease."""
    return operations.mark(keys, read_begin, value, window_us, b"begun", mark_ttl_ms, 0)


def finish(
    operations: Operations, keys: LockKeys, value: bytes, ending: Ending
) -> RedisCall[ReleaseReply]:
    """Mark a window as done, and give the lock up, or keep the name for a while."""
    window_us, mark_ttl_ms, kept_until_us = ending
    return operations.mark(keys, read_finish, value, window_us, b"done", mark_ttl_ms, kept_until_us)


def read_look(reply: list[Any], _sent_at: float) -> Looked:
    """Read the answer of ``look.lua``."""
    _, _, server_us, value, mark = reply
    if type(server_us) is not int or type(value) is not bytes or type(mark) is not bytes:
        raise OtherShape
    holder = bounded(read_value(value).token) if value else None
    return Looked(server_us, holder, read_mark(mark))


def read_begin(reply: list[Any], sent_at: float) -> Done | AlreadyMarked | NotOurs:
    """Read the answer of ``mark.lua`` where a window begins."""
    if reply[0] != _HELD:
        return read_finish(reply, sent_at)
    _, _, text = reply
    mark = read_mark(text)
    if mark is None:
        raise OtherShape
    return AlreadyMarked(mark)


def read_finish(reply: list[Any], sent_at: float) -> Done | NotOurs:
    """Read the answer of ``mark.lua`` where a window ends; it knows what an earlier copy did."""
    read = read_release(reply, sent_at)
    return read._replace(surely=True) if isinstance(read, NotOurs) else Done()
