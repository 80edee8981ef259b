"""What the scripts' replies mean; the numbers of prelude.lua do not travel further.

One function per script: it takes the array that the script returned, and the local
instant before the request was sent.
"""

from __future__ import annotations

from typing import Any

from aiodistlock.stores.answers import (
    AbandonReply,
    AcquireReply,
    Claimed,
    ClaimReply,
    Done,
    Ends,
    Granted,
    Held,
    HeldByOther,
    Inspected,
    InspectReply,
    Kept,
    MoveEndReply,
    NotOurs,
    PassOnReply,
    Queued,
    ReleaseReply,
    Renewed,
    RenewReply,
    Taken,
)

# The codes of prelude.lua.
GRANTED, QUEUED, HELD, DONE, GONE, OTHER, UNTRUSTED = range(1, 8)

NOT_OURS = {
    GONE: NotOurs("its key is gone from Redis (expired, deleted or flushed)"),
    OTHER: NotOurs("another token is at its key"),
}


def seconds(milliseconds: int) -> float | None:
    """Convert a remaining time; ``None`` if there is no ttl."""
    return milliseconds / 1000 if milliseconds >= 0 else None


def _queued(reply: list[Any], sent_at: float) -> Queued:
    _, _, remaining, holder, server_us, position = reply
    return Queued(holder.decode(errors="replace"), seconds(remaining), position, server_us, sent_at)


def acquire(reply: list[Any], sent_at: float) -> AcquireReply:
    """Read the answer of ``acquire.lua``."""
    code = reply[0]
    if code == GRANTED:
        return Granted(reply[2], reply[3], sent_at)
    if code == QUEUED:
        return _queued(reply, sent_at)
    return Held(reply[3].decode(errors="replace"), seconds(reply[2]))


def pass_on(reply: list[Any], sent_at: float) -> PassOnReply:
    """Read the answer of ``pass_on.lua``."""
    code = reply[0]
    if code == DONE:
        return Kept(reply[2], reply[3], sent_at)
    if code == GRANTED:
        return Granted(reply[2], reply[3], sent_at)
    if code == QUEUED:
        return _queued(reply, sent_at)
    return NOT_OURS[code]


def renew(reply: list[Any], sent_at: float) -> RenewReply:
    """Read the answer of ``renew.lua``."""
    if reply[0] == DONE:
        return Renewed(sent_at, reply[2])
    return NOT_OURS[reply[0]]


_RELEASED = Done()


def release(reply: list[Any], _sent_at: float) -> ReleaseReply:
    """Read the answer of ``release.lua``."""
    return _RELEASED if reply[0] == DONE else NOT_OURS[reply[0]]


def abandon(_reply: list[Any], _sent_at: float) -> AbandonReply:
    """Read the answer of ``abandon.lua``."""
    return Done()


def claim(reply: list[Any], _sent_at: float) -> ClaimReply:
    """Read the answer of ``claim.lua``."""
    code = reply[0]
    return Claimed(code == GRANTED) if code in (DONE, GRANTED) else NOT_OURS[code]


def move_end(reply: list[Any], _sent_at: float) -> MoveEndReply:
    """Read the answer of ``move_end.lua``."""
    code = reply[0]
    if code in (DONE, GRANTED, HELD):
        return Ends(reply[2], moved=code == DONE, before=code == GRANTED)
    return NOT_OURS[code]


def inspect(reply: list[Any], _sent_at: float) -> InspectReply:
    """Read the answer of ``inspect.lua``."""
    _, _, holder, remaining, fence, records = reply
    waiters = tuple(record.rsplit(b" ", 1)[-1].decode(errors="replace") for record in records)
    return Inspected(
        holder.decode(errors="replace") if remaining != -2 else None,
        seconds(remaining),
        fence,
        waiters,
    )


def force_release(reply: list[Any]) -> Taken | HeldByOther:
    """Read the answer of ``force_release.lua``."""
    if reply[0] == DONE:
        return Taken(reply[2], reply[3].decode(errors="replace") or None)
    return HeldByOther(reply[2].decode(errors="replace") if reply[0] == OTHER else None)
