"""Runs the tasks that replies woke, in the read that brought the replies.

asyncio wakes a task by a callback of its own, in the next turn of the loop: a handle, four
calls in Python, and one more for what the task then sends.  Where a read brings twenty
replies that is a tenth of the client's time, so here the read itself runs those tasks.

Rules
-----
1. A reply is taken in, and the future done, before the task runs; and no task runs while
   a reply is taken in.  So a task that cancels another one that was woken with it meets
   what it would meet in asyncio: a future that is done, and a task that is about to run.
2. Tasks run as from the loop: one after another, each in its own context, none within
   another task.  What one lets through (``KeyboardInterrupt``) ends the loop, and the
   others are left to it, as what else is ready: none of them runs on in a child process
   that leaves by ``SystemExit``.
3. Elsewhere (one task hands a lock to the next in memory, a timer ends a wait) a future
   wakes its task as asyncio does.
4. So it does on any loop but a plain one: in debug mode, where a slow task would be told
   under the transport's name; where the loop runs within a task (``nest_asyncio``); where
   somebody's own loop may count on running every task itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NoReturn, TypeVar

R = TypeVar("R")

_Step = tuple[Callable[..., object], Callable[[asyncio.Future[Any]], object], asyncio.Future[Any]]
"""How to run something in its context, what to run, and for which future."""

# One entry for each loop in which a read goes on; loops of other threads have their own.
_woken: dict[asyncio.AbstractEventLoop, list[_Step]] = {}


def settle(future: asyncio.Future[R], result: R) -> None:
    """Set a future's result; the one task that waits for it runs when the read is over."""
    if _woken and (woken := _woken.get(future.get_loop())) is not None:
        # A private of asyncio's, there from 3.4 to 3.14: where it goes, only time is lost.
        waiting = getattr(future, "_callbacks", None)
        if waiting is not None and len(waiting) == 1:
            callback, context = waiting[0]
            future.remove_done_callback(callback)
            future.set_result(result)
            woken.append((context.run, callback, future))
            return
    future.set_result(result)


def read_begins(loop: asyncio.AbstractEventLoop) -> list[_Step]:
    """Have futures that are settled from now on wake their tasks in :func:`read_ends`."""
    woken: list[_Step] = []
    kind: Any = type(loop)
    run = _run_of(kind)
    # Asked each time: a loop may be patched, and debugged, while it runs.  And within a task
    # (a transport that delivers at once) no other one may run.
    plain = run is not None and kind.run_forever is run and not loop.get_debug()
    if plain and asyncio.current_task(loop) is None:
        _woken[loop] = woken
    return woken


@lru_cache(maxsize=16)
def _run_of(kind: Any) -> object:
    """Return what runs loops of a plain kind, ``None`` for any other kind."""
    if kind is asyncio.SelectorEventLoop:
        return asyncio.BaseEventLoop.run_forever
    if (kind.__module__, kind.__qualname__) == ("uvloop", "Loop"):
        return kind.run_forever
    return None


def read_ends(loop: asyncio.AbstractEventLoop, woken: list[_Step]) -> None:
    """Run the tasks that were woken since :func:`read_begins`."""
    _woken.pop(loop, None)
    steps = iter(woken)
    try:
        for run, callback, future in steps:
            run(callback, future)
    except BaseException as error:  # noqa: BLE001  # as if the loop had run the task
        loop.call_soon(_raise, error)
        for run, callback, future in steps:
            loop.call_soon(run, callback, future)


def _raise(error: BaseException) -> NoReturn:
    raise error
