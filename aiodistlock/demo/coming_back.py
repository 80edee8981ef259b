"""The last line: what it is worth that a released lock stays with its process.

One process applies the events to balances in its own memory, under the lock of each wallet,
with ``linger`` and without: what is measured is the lock, where every wallet comes back to the
process that had it.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import Final

from aiodistlock import LockClient

from .events import Event, true_balances
from .figures import ComingBack
from .performance import TASKS_PER_WORKER, Stage

_SECONDS: Final = 0.5

_LINGER: Final = 0.05


async def coming_back(stage: Stage) -> ComingBack:
    """Apply events for half a second without lingering, and for as long with it."""
    plain, exact = await _apply(stage, 0.0)
    lingering, exact_too = await _apply(stage, _LINGER)
    return ComingBack(
        seconds=_SECONDS,
        linger=_LINGER,
        events_per_second=plain,
        lingering_events_per_second=lingering,
        exact=exact and exact_too,
    )


async def _apply(stage: Stage, linger: float) -> tuple[float, bool]:
    """Return the events applied in a second, and whether every balance is right."""
    balances: Counter[str] = Counter()
    applied: list[Event] = []

    async def consume(events: Iterator[Event], until: float) -> None:
        for event in events:
            async with made[event.wallet]:
                balances[event.wallet] += event.amount
            applied.append(event)
            if time.monotonic() >= until:
                return

    async with LockClient.from_url(stage.redis_url, label="coming-back") as locks:
        async with locks.lock("coming-back", namespace=stage.namespace):
            pass  # connected, its scripts loaded
        made = {
            wallet: locks.lock(wallet, ttl=stage.ttl, namespace=stage.namespace, linger=linger)
            for wallet in {event.wallet for event in stage.events}
        }
        began = time.monotonic()
        events = cycle(stage.events)
        await asyncio.gather(*(consume(events, began + _SECONDS) for _ in range(TASKS_PER_WORKER)))
        seconds = time.monotonic() - began
    return round(len(applied) / seconds, 1), _are_right(balances, applied)


def _are_right(balances: Counter[str], applied: Sequence[Event]) -> bool:
    true = true_balances(applied)
    return balances == Counter({wallet: balance for wallet, (balance, _) in true.items()})
