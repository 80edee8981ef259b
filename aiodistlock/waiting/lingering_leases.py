"""All leases of one client that linger: how many, and until when.

What is not used again in time is released for good, those whose time is over together in one
write; where there are too many, the oldest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from aiodistlock.core.clock import Clock, Timer, Timers
from aiodistlock.core.keys import LockKeys
from aiodistlock.leases.process_lease import ProcessLease
from aiodistlock.waiting.linger_rules import MOST, QUIET_FOR, Arming

TOGETHER = 24
"""So many of the oldest are released together where there are too many: one write of a pipe."""

GRAIN = 0.002
"""Leases linger for so long more at most, seconds, so that a look ends many of them."""


class LingerCounts(NamedTuple):
    """
    How often leases of a client lingered, and what for.

    :ivar hits: acquisitions that used a lease again, without asking Redis
    :ivar misses: leases that lingered and were used no more
    :ivar recalls: leases that somebody else asked for
    """

    hits: int
    misses: int
    recalls: int


class LingeringLeases:
    """
    All leases of one client that linger, the oldest first.

    :ivar hits: see :class:`LingerCounts`, also for the others
    """

    __slots__ = (
        "_armings",
        "_clock",
        "_leases",
        "_looks_at",
        "_quiet",
        "_timer",
        "_timers",
        "hits",
        "misses",
        "recalls",
    )

    def __init__(self, clock: Clock, timers: Timers) -> None:
        self._clock = clock
        self._timers = timers
        self._leases: dict[ProcessLease, float] = {}
        """Until when each lingers."""
        self._quiet: dict[bytes, float] = {}
        """Until when a key does not linger, behind a holder who could not have asked."""
        self._timer: Timer | None = None
        self._looks_at = 0.0
        self._armings: dict[bytes, Arming] = {}
        """Of each key with ``linger="auto"``; its locks may be made for each use."""
        self.hits = self.misses = self.recalls = 0

    def __len__(self) -> int:
        return len(self._leases)

    def keys(self) -> list[LockKeys]:
        """Return the keys of all."""
        return [lease.keys for lease in self._leases]

    def add(self, lease: ProcessLease, until: float) -> None:
        """Have a lease linger until its time is over."""
        self._leases[lease] = until
        if len(self._leases) > MOST:
            for oldest in list(self._leases)[:TOGETHER]:
                oldest.possessor.end_lingering(oldest)
        if self._timer is None or until < self._looks_at - GRAIN:
            self._look_at(until)

    def used(self, lease: ProcessLease) -> None:
        """Take note that a lease has a holder again."""
        del self._leases[lease]
        self.hits += 1

    def remove(self, lease: ProcessLease) -> None:
        """Take note that a lease lingers no longer."""
        self._leases.pop(lease, None)

    def end(self, concerned: Callable[[LockKeys], bool] = lambda _keys: True) -> None:
        """Release all leases whose keys are concerned for good."""
        for lease in list(self._leases):
            if concerned(lease.keys):
                lease.possessor.end_lingering(lease)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_at(self, instant: float) -> None:
        self.stop()
        self._looks_at = instant
        pause = max(GRAIN, instant - self._clock())
        self._timer = self._timers.call_later(pause, self._look)

    def _look(self) -> None:
        """Release those whose time is over."""
        self._timer = None
        now = self._clock()
        for lease, until in list(self._leases.items()):
            if until <= now:
                lease.possessor.end_lingering(lease)
        if self._leases:
            self._look_at(min(self._leases.values()))

    def keep_quiet(self, key: bytes) -> None:
        """Have a key not linger for a while: somebody who cannot ask wants it, too."""
        now, quiet = self._clock(), self._quiet
        if len(quiet) >= MOST:
            self._quiet = quiet = {each: until for each, until in quiet.items() if until > now}
        quiet[key] = now + QUIET_FOR

    def arming(self, key: bytes) -> Arming:
        """Return what was seen of a key; of too many, the one known longest is forgotten."""
        arming = self._armings.get(key)
        if arming is None:
            if len(self._armings) >= MOST:
                del self._armings[next(iter(self._armings))]
            arming = self._armings[key] = Arming()
        return arming

    def is_quiet(self, key: bytes, now: float) -> bool:
        """Tell whether a key must not linger now."""
        return bool(self._quiet) and self._quiet.get(key, now) > now
