"""The body of a block, which is cancelled when its lease is lost; free of charge until then.

Rules
-----
1. How the loss gets to the task stands in :mod:`~aiodistlock.leases.cancellation`.
2. Each ``cancel()`` is taken back by an ``uncancel()`` when the body ends.  If the task
   is then still being cancelled more often than when it entered, somebody else wants it
   to end, too, and the cancellation is not ours to swallow.

``anyio.CancelScope`` would do most of it.  But entering one costs 3 us for each hold, and
hardly any lease is ever lost.  (What an anyio task group runs in the body is cancelled
by the group, as by any cancellation of its host.)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import FrameType
from typing import Any

from aiodistlock.leases import shields
from aiodistlock.leases.cancellation import Cancellation


class Body:
    """The code in one ``async with`` block, as far as it can be cancelled."""

    __slots__ = ("_cancellation", "_cancelling", "_frame", "_iterated", "_outer", "_task")

    def __init__(self) -> None:
        self._task: asyncio.Task[Any] | None = None
        self._cancellation: Cancellation | None = None
        self._frame: FrameType | None = None
        """The frame that the block is in; held, so that no other one takes its identity."""
        self._iterated = False
        """Whether that is of an async generator, and no ``@asynccontextmanager``."""

    def _enter_body(self, task: asyncio.Task[Any]) -> None:
        """Begin the body, in ``task``."""
        self._task = task
        self._cancelling = task.cancelling()
        self._outer = shields.scope_of(task) if shields.any_scopes else None

    def _cancel_body(self) -> None:
        """Cancel the body from now on until it ends."""
        if self._cancellation is None and self._task is not None:
            self._cancellation = Cancellation(
                self._task, self._outer, self._frame, iterated=self._iterated
            )

    def _leave_body(self, exc: BaseException | None) -> bool:
        """End the body; tell whether ``exc`` is nothing but our cancellation."""
        task, self._task = self._task, None
        if self._cancellation is None:
            return False
        assert task is not None
        self._cancellation.stop()
        return (
            isinstance(exc, asyncio.CancelledError)
            and task is asyncio.current_task()
            and task.cancelling() <= self._cancelling
        )


@asynccontextmanager
async def _nothing() -> AsyncIterator[None]:
    yield


_CONTEXT_MANAGER: Any = type(_nothing()).__aenter__.__code__


def is_iterated(frame: FrameType) -> bool:
    """
    Tell whether the frame of an async generator that runs now is of one that is iterated.

    Then the code between two items is the iterating task's own, and gets no error into the
    generator.  In an ``@asynccontextmanager`` it is the body of the block.
    """
    caller = frame.f_back
    return caller is None or caller.f_code is not _CONTEXT_MANAGER
