"""Letting those go first who were told that they may ask.

A quorum has no queue across its nodes: a release hints to waiters, who then need a round
trip to ask.  Whoever released, and wants the lock again at once, would always be before
them.
"""

from __future__ import annotations

from aiodistlock.core.clock import Clock

YIELD = 0.005
"""Seconds for which a process that gave the lock up stands back, besides the jitter: a
waiter that got a hint needs a round trip or two."""


class Courtesy:
    """The keys on which others were given a hint just now."""

    __slots__ = ("_clock", "_until")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # In the order of their ends, since all are of the same length.
        self._until: dict[bytes, float] = {}

    def hinted(self, key: bytes) -> None:
        """Take note that a waiter of another process may ask for a key."""
        now, until = self._clock(), self._until
        until.pop(key, None)
        while until and next(iter(until.values())) <= now:
            del until[next(iter(until))]
        until[key] = now + YIELD

    def owed(self, key: bytes) -> float:
        """Return for how many seconds to stand back from a key, once; 0.0 for not at all."""
        if not self._until:
            return 0.0
        return max(0.0, self._until.pop(key, 0.0) - self._clock())
