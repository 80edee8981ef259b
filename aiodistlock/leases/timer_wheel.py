"""Leases by the instant at which they must be looked at.

A timer wheel: a dict of sets by instant, in steps of ``GRAIN`` (G. Varghese, A. Lauck,
"Hashed and Hierarchical Timing Wheels", SOSP 1987).  A lease that is not due before the
wheel is looked at again is not even sorted into it until then: most are released long
before, so an uncontended acquisition costs a set two operations, and no timer, no task.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator

from aiodistlock.leases.process_lease import ProcessLease

GRAIN = 0.005
"""Seconds to one step of the wheel; leases are looked at up to one step early."""

TOGETHER = 4
"""Steps whose renewals leave in one write, where more than a second is left for it.

Only renewals may come that early: the end of ``max_hold`` is no matter of a write.
"""


def _step(lease: ProcessLease) -> int:
    """Return the step in which a lease is looked at."""
    due_at = lease.due_at
    step = int(due_at / GRAIN)
    if due_at != lease.ends_at and lease.deadline - due_at > 1.0:
        return step - step % TOGETHER
    return step


class TimerWheel:
    """
    Leases, each at its ``due_at``; what changes that must take the lease out before.

    :param on_earlier: told when a lease came in that is due before ``looks_at``
    """

    __slots__ = ("_on_earlier", "_sets", "_steps", "_unsorted", "looks_at")

    def __init__(self, on_earlier: Callable[[], object]) -> None:
        self._on_earlier = on_earlier
        self._sets: dict[int, set[ProcessLease] | None] = {}
        self._steps: list[int] = []
        self._unsorted: set[ProcessLease] = set()
        """Leases that are due after ``looks_at``, to be sorted in then."""
        self.looks_at = math.inf
        """Instant of the next :meth:`due`, as its caller plans it."""

    def add(self, lease: ProcessLease) -> None:
        """Put a lease in."""
        if lease.due_at > self.looks_at:
            self._unsorted.add(lease)
        else:
            self._sort_in(lease)

    def remove(self, lease: ProcessLease) -> None:
        """Take a lease out, if it is in."""
        if lease in self._unsorted:
            self._unsorted.remove(lease)
            return
        step = _step(lease)
        leases = self._sets.get(step)
        if leases is not None:
            leases.discard(lease)
            if not leases:
                # An empty set takes 200 bytes, and with a long ttl many steps are ahead.
                self._sets[step] = None

    def __iter__(self) -> Iterator[ProcessLease]:
        for leases in self._sets.values():
            yield from leases or ()
        yield from self._unsorted

    def _sort_in(self, lease: ProcessLease) -> None:
        step = _step(lease)
        leases = self._sets.get(step)
        if leases is None:
            if step not in self._sets:
                heapq.heappush(self._steps, step)
            self._sets[step] = {lease}
            if lease.due_at < self.looks_at:
                self._on_earlier()
        else:
            leases.add(lease)

    def _sort(self) -> None:
        unsorted, self._unsorted = self._unsorted, set()
        for lease in unsorted:
            self._sort_in(lease)

    def next_at(self) -> float:
        """Return the instant at which a lease is due next, infinite if there is none."""
        self._sort()
        return self._steps[0] * GRAIN if self._steps else math.inf

    def due(self, now: float) -> Iterator[ProcessLease]:
        """Take out the leases that are due."""
        # Those that became due since ``looks_at``, too: the loop may have been blocked,
        # or the machine suspended.
        self._sort()
        while self._steps and self._steps[0] * GRAIN <= now:
            yield from self._sets.pop(heapq.heappop(self._steps)) or ()
