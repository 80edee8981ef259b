"""Measures what the locks on a Redis cost it: scripts, server time, listeners, memory.

Scripts are counted whosever they are: a server does not tell them apart.  What is estimated
is estimated from a sample, since a Redis may hold anything besides locks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import anyio
from redis.exceptions import ResponseError

from aiodistlock.core.clock import local_clock
from aiodistlock.core.keys import RESERVED

from .facts import Cost
from .session import Session, lines

_SAMPLED: Final = 10_000
"""Keys of which we look how many are those of locks."""
_WEIGHED: Final = 50
"""Keys of locks whose memory is asked for."""
_LOOKING: Final = 1.0
"""Seconds after which no more keys are looked through."""
_INBOXES: Final = f"{RESERVED}inbox:*"


@dataclass(frozen=True, slots=True)
class _Sample:
    """What had been used up at an instant: scripts, and seconds in them and of the core."""

    at: float
    scripts: int
    in_scripts: float
    core: float | None


async def read_cost(session: Session, namespace: str, seconds: float, *, by_slot: bool) -> Cost:
    """
    Measure; what may not be asked is missing.

    :param namespace: prefix of the keys that count as locks
    :param seconds: for how long scripts are counted; 0: not at all
    :param by_slot: whether inboxes are sharded channels
    :raises Silent: if the server does not answer
    """
    rates: dict[str, Any] = {}
    if seconds and (before := await _sample(session)) is not None:
        await anyio.sleep(seconds)
        if (after := await _sample(session)) is not None:
            rates = _rates(before, after)
    locks, memory = await _memory(session, namespace)
    listing = "SHARDCHANNELS" if by_slot else "CHANNELS"
    (inboxes,) = await session.ask_all([("PUBSUB", listing, _INBOXES)])
    listeners = None if isinstance(inboxes, ResponseError) else len(inboxes)
    return Cost(**rates, locks=locks, memory=memory, listeners=listeners)


async def _sample(session: Session) -> _Sample | None:
    replies = await session.ask_all([("INFO", "commandstats"), ("INFO", "cpu")])
    if any(isinstance(reply, ResponseError) for reply in replies):
        return None
    commands, cpu = map(lines, replies)
    if not any(name.startswith("cmdstat_") for name in commands):
        return None  # what does not count at all, for it has had our own questions
    stats = [_fields(commands.get(f"cmdstat_{each}", "")) for each in ("eval", "evalsha")]
    return _Sample(
        at=local_clock(),
        scripts=round(sum(each.get("calls", 0) for each in stats)),
        in_scripts=sum(each.get("usec", 0) for each in stats) / 1e6,
        core=_core(cpu),
    )


def _core(cpu: Mapping[str, str]) -> float | None:
    """Return the seconds that the thread which runs scripts has had of its core."""
    told = [cpu.get(f"used_cpu_{each}_main_thread", "") for each in ("user", "sys")]
    try:
        return sum(map(float, told))
    except ValueError:
        return None


def _fields(told: str) -> dict[str, float]:
    """Read ``calls=1,usec=2``; of what only resembles a Redis, what can be read."""
    found = {}
    for each in told.split(","):
        name, _, value = each.partition("=")
        if value.isdecimal():
            found[name] = float(value)
    return found


def _rates(before: _Sample, after: _Sample) -> dict[str, Any]:
    elapsed = after.at - before.at
    # (Whoever resets the statistics meanwhile leaves less than there was.)
    core = None if before.core is None or after.core is None else after.core - before.core
    return {
        "scripts": max(0.0, (after.scripts - before.scripts) / elapsed),
        "in_scripts": max(0.0, (after.in_scripts - before.in_scripts) / elapsed),
        "core": None if core is None else max(0.0, core / elapsed),
    }


async def _memory(session: Session, namespace: str) -> tuple[int | None, int | None]:
    """Estimate how many keys of locks there are, and the bytes that they take."""
    if not namespace:
        return None, None  # any key may be a lock
    ours, seen, cursor = [], 0, b"0"
    give_up_at = local_clock() + _LOOKING
    try:
        total = int(await session.ask("DBSIZE"))
        while True:
            cursor, keys = await session.ask("SCAN", cursor, "COUNT", 1000)
            seen += len(keys)
            starts = (namespace.encode(), RESERVED.encode())
            ours += [key for key in keys if key.startswith(starts)]
            if cursor == b"0" or seen >= _SAMPLED or local_clock() > give_up_at:
                break
    except ResponseError:
        return None, None
    count = round(total * len(ours) / seen) if seen else 0
    replies = await session.ask_all([("MEMORY", "USAGE", key) for key in ours[:_WEIGHED]])
    sizes = [reply for reply in replies if isinstance(reply, int)]
    if not ours:
        return 0, 0
    return count, round(count * sum(sizes) / len(sizes)) if sizes else None
