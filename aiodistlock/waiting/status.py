"""What a client is in use for at this instant, and how it fares."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aiodistlock.core.keys import LockKeys
from aiodistlock.waiting.attempt import Contending
from aiodistlock.waiting.engine import Engine


@dataclass(frozen=True, slots=True)
class ClientHealth:
    """
    How a :class:`~aiodistlock.LockClient` fares at this instant.

    :ivar connected: whether a connection to Redis is open, on a quorum to a majority
    :ivar silent_for: seconds since anything came from Redis, on a quorum from a majority of its
        nodes; ``None`` if nothing did yet.  A client that nobody uses asks nothing, and hears
        nothing
    :ivar watchdog_lag: seconds by which renewals are late, as the event loop is busy; what
        comes near a third of the shortest ttl costs leases
    :ivar held: leases that somebody here holds
    :ivar waiting: tasks that wait for a lock
    :ivar lost: leases that were lost in the last minute
    """

    connected: bool
    silent_for: float | None
    watchdog_lag: float
    held: int
    waiting: int
    lost: int


def health_of(engines: Sequence[Engine], held: int) -> ClientHealth:
    """
    Return how a client fares, asked from whatever thread.

    :param held: how many leases its engines have together
    """
    running = [engine for engine in engines if not engine.closed]
    silent = [each.clock() - each.connection.heard_at for each in running]
    shortest = max(0.0, min(silent, default=math.inf))
    return ClientHealth(
        connected=any(engine.connection.online for engine in running),
        silent_for=None if shortest == math.inf else shortest,
        watchdog_lag=max((engine.watchdog.lag() for engine in running), default=0.0),
        held=held,
        waiting=_undisturbed(lambda: sum(map(waiting, running))),
        lost=_undisturbed(lambda: sum(engine.watchdog.lost_lately() for engine in engines)),
    )


def _undisturbed(count: Callable[[], int]) -> int:
    """Count again if the event loop, in another thread, changes meanwhile what is counted."""
    while True:
        try:
            return count()
        except RuntimeError:
            continue


def waiting(engine: Engine) -> int:
    """Return how many tasks wait for a lock."""
    return sum(map(_waiters, engine.contenders()))


def connected(*engines: Engine) -> str:
    """Tell whether a connection is open."""
    online = any(engine.connection.online for engine in engines if not engine.closed)
    return "connected" if online else "not connected"


def status_of(engine: Engine, keys: LockKeys) -> str:
    """Tell whether Redis is reached, a task here holds a lock, and how many wait for it."""
    tasks = sum(_waiters(each) for each in engine.contenders() if each.keys.key == keys.key)
    held = "held here" if keys.key in engine.holders else "not held here"
    return f"{connected(engine)}, {held}, {tasks} waiting"


def _waiters(contender: Contending) -> int:
    return sum(not waiter.future.done() for waiter in contender.waiters)
