"""Reading the local clock, and mapping server time onto it.

The one module of ``core`` that reads a clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

# ``time.monotonic()`` stands still while the machine is suspended; the server's
# ttl does not.  CLOCK_BOOTTIME goes on (Linux); elsewhere monotonic is the best
# there is, and suspension is a gap that docs/design.md leaves to fencing.
_BOOTTIME: int | None = getattr(time, "CLOCK_BOOTTIME", None)

Clock = Callable[[], float]

local_clock: Clock = time.monotonic if _BOOTTIME is None else partial(time.clock_gettime, _BOOTTIME)
"""Seconds on a clock that never goes back, and runs while the machine sleeps."""


class Timer(Protocol):
    """A call that is planned, and can be called off."""

    def cancel(self) -> None:
        """Call it off; nothing happens if it is over."""
        ...


class Timers(Protocol):
    """Plans calls; an event loop does."""

    def call_later(self, delay: float, callback: Callable[..., object], /, *args: Any) -> Timer:
        """Call ``callback`` after ``delay`` seconds."""
        ...


class ClockWithTimers(Timers, Protocol):
    """A clock that plans calls by its own time, so that a test can turn both."""

    def __call__(self) -> float:
        """Return its time, seconds."""
        ...


def wall_us() -> int:
    """Return the wall clock's time, in µs; it may be stepped."""
    return time.time_ns() // 1000


class ServerClock:
    """
    Maps instants of the server's clock to the local one, rounded the safe way.

    An exchange tells that the server read its clock *after* the request was sent.
    So ``sent_at - server_time`` is the least that the offset between the two clocks
    can have been, and an instant mapped with it is never later than the truth: a
    deadline counted from there is early, not late.

    Only the last exchange counts: the server's wall clock may be stepped.
    """

    __slots__ = ("_offset",)

    def __init__(self) -> None:
        self._offset: float | None = None

    def observe(self, server_us: int, sent_at: float) -> None:
        """Take in one exchange: the server's time in µs, and the request's instant."""
        self._offset = sent_at - server_us / 1e6

    def earliest(self, server_us: int) -> float | None:
        """
        Return the earliest local instant at which the server's clock can have
        shown ``server_us``; ``None`` before the first exchange.
        """
        return None if self._offset is None else server_us / 1e6 + self._offset

    def began(self, server_us: int, now: float, slack: float) -> float | None:
        """
        Return the earliest local instant at which something can have begun.

        ``None`` if that cannot be told: before the first exchange, and where it lies more
        than ``slack`` seconds in the future, so that the server's clock was stepped since.

        :param server_us: what the server's clock showed
        :param now: local instant by which it had begun
        """
        earliest = self.earliest(server_us)
        return None if earliest is None or earliest > now + slack else min(earliest, now)
