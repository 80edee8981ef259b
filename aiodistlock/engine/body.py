"""Cancels the body of a lease that was lost; free of charge as long as none is.

Rules
-----
1. The cancellation is delivered in every turn of the loop until the body ends: a single
   ``task.cancel()`` may be swallowed on the way (CPython #86296).
2. It does not get into an anyio scope that shields, if that was entered in the body.
3. Each ``cancel()`` is taken back by an ``uncancel()`` when the body ends.  If the task
   is then still being cancelled more often than when it entered, somebody else wants it
   to end, too, and the cancellation is not ours to swallow.

This is what ``anyio.CancelScope`` does.  But entering one costs 3 us for each hold, and
hardly any lease is ever lost.  (What an anyio task group runs in the body is cancelled
by the group, as by any cancellation of its host.)
"""

from __future__ import annotations

import asyncio
from typing import Any
from weakref import WeakKeyDictionary


def _states_of_tasks() -> WeakKeyDictionary[Any, Any]:
    """
    Return anyio's state of each task: the one way to learn of shields in the body.

    Where a later anyio keeps it otherwise, nothing: shields are not respected then.
    """
    try:
        from anyio._backends import _asyncio as anyio_internals

        states: object = anyio_internals._task_states
        scope = anyio_internals.CancelScope()
        known = scope._parent_scope is None and not scope.shield
        known = known and hasattr(anyio_internals.TaskState, "cancel_scope")
    except (ImportError, AttributeError):
        known = False
    return states if known and isinstance(states, WeakKeyDictionary) else WeakKeyDictionary()


_task_states = _states_of_tasks()
_states: dict[Any, Any] = _task_states.data  # type: ignore[attr-defined]  # typeshed's gap


class Body:
    """The code in one ``async with`` block, as far as it can be cancelled."""

    __slots__ = ("_cancelling", "_delivery", "_outer", "_task", "delivered")

    def __init__(self) -> None:
        self._task: asyncio.Task[Any] | None = None
        self._delivery: asyncio.Handle | None = None
        self.delivered = 0
        """How often the cancellation was delivered."""

    def enter_body(self, task: asyncio.Task[Any]) -> None:
        """Begin the body, in ``task``."""
        self._task = task
        self._cancelling = task.cancelling()
        # Usually no task has a scope, and to learn that takes a tenth of the time.
        state = _task_states.get(task) if _states else None
        self._outer = None if state is None else state.cancel_scope

    def cancel_body(self) -> None:
        """Cancel the body from now on until it ends."""
        if self._delivery is None and self._task is not None:
            self._deliver()

    def _deliver(self) -> None:
        task: Any = self._task
        loop = task.get_loop()
        self._delivery = loop.call_soon(self._deliver)
        if task is asyncio.current_task(loop) or task._must_cancel or self._shielded():
            return
        waiter = task._fut_waiter
        if waiter is None or not waiter.done():
            task.cancel("the lease was lost")
            self.delivered += 1

    def _shielded(self) -> bool:
        assert self._task is not None, "the body was entered"
        state = _task_states.get(self._task)
        scope = None if state is None else state.cancel_scope
        while scope is not None and scope is not self._outer:
            if scope.shield:
                return True
            scope = scope._parent_scope
        return False

    def leave_body(self, exc: BaseException | None) -> bool:
        """End the body; tell whether ``exc`` is nothing but our cancellation."""
        task, self._task = self._task, None
        if self._delivery is None:
            return False
        self._delivery.cancel()
        assert task is not None
        for _ in range(self.delivered):
            task.uncancel()
        return isinstance(exc, asyncio.CancelledError) and task.cancelling() <= self._cancelling
