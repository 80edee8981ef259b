"""Time that a test turns by hand."""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Callable
from contextvars import copy_context
from itertools import count
from typing import Any, Final

MOST_TURNS: Final = 100
"""Turns of the event loop after which the clock goes on, though tasks are still busy."""


class _Timer:
    """One planned call."""

    __slots__ = ("_args", "_callback", "_context", "_handle", "cancelled", "due_at")

    def __init__(
        self, due_at: float, callback: Callable[..., object], args: tuple[Any, ...]
    ) -> None:
        self.due_at = due_at
        self.cancelled = False
        self._callback = callback
        self._args = args
        self._context = copy_context()
        self._handle: asyncio.Handle | None = None

    def cancel(self) -> None:
        """Call it off, also in the turn of the loop in which it is due."""
        self.cancelled = True
        if self._handle is not None:
            self._handle.cancel()

    def fire(self) -> None:
        """Have the loop run it, which also hears of its errors."""
        loop = asyncio.get_running_loop()
        self._handle = loop.call_soon(self._callback, *self._args, context=self._context)


class ManualClock:
    """
    A clock for :meth:`LockClient.in_memory` that stands still until a test turns it.

    Everything that locks do by time goes by it: leases and their renewal, the ``timeout``
    of waiters, ``max_hold``, pauses.  Nothing else does: an ``asyncio.sleep`` in the code
    under test takes its real time.  A task that waits for a lock with a ``timeout`` waits
    until somebody turns the clock, so the test turns it in another task than that.

    ::

        clock = ManualClock()
        async with LockClient.in_memory(clock=clock) as locks:
            lease = await locks.lock("wallet:42", ttl=10.0, auto_renew=False).acquire()
            await clock.advance(10.0)
            assert not lease.is_held

    It works in the event loop that awaits :meth:`advance`, and is not for a real Redis,
    whose time no test can turn.

    :param now: what it shows at first, seconds
    """

    def __init__(self, now: float = 1_000_000.0) -> None:
        self._now = now
        self._timers: list[tuple[float, int, _Timer]] = []
        self._numbers = count()

    def __call__(self) -> float:
        """Return its time, seconds."""
        return self._now

    def __repr__(self) -> str:
        return f"<ManualClock at {self._now:.3f} s>"

    def call_later(self, delay: float, callback: Callable[..., object], /, *args: Any) -> _Timer:
        """Have ``callback`` called when the clock has been turned on by ``delay`` seconds."""
        timer = _Timer(self._now + max(0.0, delay), callback, args)
        heapq.heappush(self._timers, (timer.due_at, next(self._numbers), timer))
        return timer

    async def advance(self, seconds: float) -> None:
        """
        Let ``seconds`` pass, step by step.

        What is due meanwhile happens at its instant, in order, and all tasks run on until
        they wait, before the clock goes on.  Leases are renewed as ever: one that must
        expire has ``auto_renew=False``, or see :meth:`stall`.

        Tasks that wait for something else than locks (a socket, a thread, a sleep) are not
        waited for.

        :raises ValueError: if ``seconds`` is no number from 0
        """
        target = self._now + _checked(seconds)
        await _settle()
        while (timer := self._next(target)) is not None:
            self._now = max(self._now, timer.due_at)
            timer.fire()
            await _settle()
        self._now = max(self._now, target)

    async def stall(self, seconds: float) -> None:
        """
        Let ``seconds`` pass in which this process stands still, as if it were suspended.

        Nothing is renewed meanwhile: leases whose ttl is over are lost when it wakes up.
        All clients that go by this clock stand still.

        :raises ValueError: if ``seconds`` is no number from 0
        """
        target = self._now + _checked(seconds)
        await _settle()
        self._now = max(self._now, target)
        # As a loop does that wakes up late: all that is due in one turn, in order.
        while (timer := self._next(target)) is not None:
            timer.fire()
        await self.advance(0.0)

    def _next(self, until: float) -> _Timer | None:
        """Take out the next timer that is due until then."""
        while self._timers and self._timers[0][0] <= until:
            timer = heapq.heappop(self._timers)[-1]
            if not timer.cancelled:
                return timer
        return None


def _checked(seconds: float) -> float:
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise ValueError(f"seconds must be a number, not {seconds!r}")  # noqa: TRY004  # as all
    if not 0.0 <= seconds < math.inf:
        raise ValueError(f"seconds must be 0 or more: time does not go back; not {seconds!r}")
    return seconds


async def _settle() -> None:
    """Let all tasks run on until they wait."""
    loop = asyncio.get_running_loop()
    for _ in range(MOST_TURNS):
        await asyncio.sleep(0)
        # What asyncio's own loop has left to run; others take all the turns.
        if not getattr(loop, "_ready", True):
            return
