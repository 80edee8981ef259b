"""Brings the loss of a lease to the task in its body, until the body has ended.

Rules
-----
1. Delivered as soon as it can be, and again whenever it was swallowed: a single
   ``task.cancel()`` may get lost on the way (CPython #86296).
2. Not into an anyio scope that shields, if that was entered in the body.
3. A cancellation that is on its way out is left to itself for ``CLEANUP_WITHIN``, so that
   one clean-up (``finally: await connection.close()``) gets through; then what is still
   awaited is cancelled as well.
4. What ``asyncio.wait_for`` awaits in a task of its own ends before the body does.
5. Only while the task is in the body: who iterates an async generator with a block in it
   is not, between two items.
6. Nobody asks while nothing can have changed: the next look is when that is over for which
   the task waits, or the time for a clean-up.  Who swallows cancellation for cancellation
   gets the next one after growing pauses.
"""

from __future__ import annotations

import asyncio
from types import FrameType
from typing import Any

from aiodistlock.leases import shields
from aiodistlock.leases.await_chain import UNTOLD, Way, awaited_by, innermost, is_inside, way_of

CLEANUP_WITHIN = 1.0
"""Longest that a body may clean up before its awaits are cancelled as well, seconds."""

AT_ONCE = 50
"""How many tries follow each other without a pause."""

MAX_PAUSE = 0.02
"""Longest pause between two tries, seconds."""


class Cancellation:
    """
    Cancels a task from now on, as the rules say, until it is stopped.

    :param outer: the anyio scope that the body was entered in
    :param frame: the frame that the block is in, as far as that is known
    :param iterated: whether that is of an async generator whose iterating task is in the
        body only while the generator runs
    """

    __slots__ = (
        "_cleanup_ends_at",
        "_frame",
        "_handle",
        "_iterated",
        "_loop",
        "_outer",
        "_task",
        "_tries",
        "_watched",
        "count",
    )

    def __init__(
        self, task: asyncio.Task[Any], outer: Any, frame: FrameType | None, *, iterated: bool
    ) -> None:
        self.count = 0
        """How often the task was cancelled."""
        self._task = task
        self._outer = outer
        self._frame = frame
        self._iterated = iterated
        self._loop = task.get_loop()
        self._handle: asyncio.Handle | None = None
        self._watched: asyncio.Future[Any] | None = None
        """Whose end the next look waits for."""
        self._cleanup_ends_at = 0.0
        self._tries = 0
        self._look()

    def stop(self) -> None:
        """Cancel no more, and take back what was."""
        self._forget_plan()
        for _ in range(self.count):
            self._task.uncancel()

    def _look(self, over: asyncio.Future[Any] | None = None) -> None:
        """Deliver if that can be done now, and plan the next look."""
        if over is not self._watched and over is not None:
            return  # called behind a stop, or another look: too late to be taken back
        self._forget_plan()
        if self._task.done():
            return
        task = innermost(self._task)
        awaited = awaited_by(task)
        ours = task is asyncio.current_task(self._loop)
        way = Way.RUNS if ours else way_of(task, self._frame)
        if self._iterated and not is_inside(self._task, self._frame):
            self._look_later()
        elif shields.is_shielded(task, self._outer if task is self._task else None):
            self._look_behind(awaited)
        elif way is Way.RUNS:
            self._look_behind(None)
        elif way is Way.LEAVES and self._may_clean_up(task):
            self._look_behind(awaited)
            if self._handle is None:
                self._handle = self._loop.call_at(self._cleanup_ends_at, self._look)
        else:
            if task is self._task:
                self.count += 1
            task.cancel("the lease was lost")
            self._look_later()

    def _may_clean_up(self, task: asyncio.Task[Any]) -> bool:
        """Tell whether what a task awaits on its way out may take its time."""
        host = task is self._task
        if host and self.count == 0 and not is_inside(task, self._frame):
            return False  # perhaps on its way out of what is around the block
        now = self._loop.time()
        if self._cleanup_ends_at == 0.0:
            self._cleanup_ends_at = now + CLEANUP_WITHIN
        return now < self._cleanup_ends_at

    def _look_behind(self, awaited: asyncio.Future[Any] | None) -> None:
        """Look again when something is over, behind the step that the task then takes."""
        if awaited is UNTOLD:
            self._look_later()  # by time
        elif awaited is None:
            self._handle = self._loop.call_soon(self._look)
        else:
            awaited.add_done_callback(self._look)
            self._watched = awaited

    def _look_later(self) -> None:
        """Look in the next turn of the loop; after many tries later."""
        self._tries += 1
        if self._tries <= AT_ONCE:
            self._handle = self._loop.call_soon(self._look)
        else:
            pause = min(MAX_PAUSE, 0.001 * 2.0 ** min(10, self._tries - AT_ONCE))
            self._handle = self._loop.call_later(pause, self._look)

    def _forget_plan(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if self._watched is not None:
            self._watched.remove_done_callback(self._look)
            self._watched = None
