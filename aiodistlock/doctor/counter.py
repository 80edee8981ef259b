"""Reads how far fence counters are ahead of the server's clock.

Where the scripts take the server's time for fencing tokens, only a clock that was set back
leaves one far ahead; on a quorum, where clients propose what their own show, one of theirs, too.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from redis.exceptions import ResponseError

from aiodistlock.core.clock import local_clock
from aiodistlock.core.keys import fence_key

from .session import Session, text

# By the server's own clock, in µs.  What is no counter of ours the scripts drop by themselves.
_JUDGE: Final = b"""\
local last = tonumber(string.match(redis.call('GET', KEYS[1]) or '', '^%d+'))
if not last or last >= 2^53 then return '' end
local time = redis.call('TIME')
return string.format('%.0f', last - (time[1] * 1000000 + time[2]))
"""

_MOST: Final = 100
"""Counters to judge: a clock that was set back is behind all that are in use."""
_LOOKING: Final = 1.0
"""Seconds after which no more of a server's keys are looked through."""


async def read_counter(session: Session, *, by_slot: bool) -> float | None:
    """
    Tell by how many seconds the furthest counter is ahead; below 0: behind, as it should be.

    :param by_slot: whether each hash slot has one: then some of them are judged
    :return: ``None`` if there is none, or none that may be read
    :raises Silent: if the server does not answer
    """
    keys = await _some_counters(session) if by_slot else [fence_key(None)]
    replies = await session.ask_all([("EVAL", _JUDGE, 1, key) for key in keys])
    told = [text(reply) for reply in replies if not isinstance(reply, ResponseError)]
    return max((float(each) / 1e6 for each in told if each), default=None)


async def _some_counters(session: Session) -> list[bytes]:
    found: list[bytes] = []
    cursor, give_up_at = b"0", local_clock() + _LOOKING
    # (A user may hold locks without the right to look through keys.)
    with suppress(ResponseError):
        while True:
            match = (b"MATCH", fence_key(None) + b":*", b"COUNT", 1000)
            cursor, keys = await session.ask("SCAN", cursor, *match)
            found += keys
            if cursor == b"0" or len(found) >= _MOST or local_clock() > give_up_at:
                break
    return found[:_MOST]
