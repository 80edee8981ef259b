"""Tasks of our own, and what becomes of them when their event loop is closed.

``loop.close()`` ends no task: what ran in the loop is left to the garbage collector, which
may come much later, in another thread, in another loop.  By then nothing of the loop can be
used; what is held in Redis expires by its ttl.  So nothing is said about it, and nothing
sent: coroutines of ours end where they stand, by a ``GeneratorExit``.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar
from weakref import WeakSet

from aiodistlock.core.thread_lock import thread_lock

T = TypeVar("T")

_tasks: WeakSet[asyncio.Task[Any]] = WeakSet()


def start_task(coroutine: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
    """Start a task that may be left to the garbage collector, unheard, by ``loop.close()``."""
    task = asyncio.get_running_loop().create_task(coroutine, name=name)
    # A private of asyncio's, for its own use of this kind: elsewhere the collector says that
    # a task was destroyed.
    if hasattr(task, "_log_destroy_pending"):
        task._log_destroy_pending = False
    with thread_lock:
        _tasks.add(task)
    return task


async def end_task(task: asyncio.Task[Any] | None) -> None:
    """Cancel a task, and wait until it has ended."""
    while task is not None and not task.done():
        # Again until it ends: redis-py may swallow a cancellation while connecting.
        task.cancel()
        await asyncio.wait([task], timeout=0.1)


def end_tasks_of(loop: asyncio.AbstractEventLoop) -> None:
    """End all tasks of ours in a loop that is closed, before what they use is collected."""
    with thread_lock:
        left = [task for task in _tasks if task.get_loop() is loop and not task.done()]
    for task in left:
        coroutine: Any = task.get_coro()
        # One that runs is being closed already, and the collector came meanwhile.
        if not coroutine.cr_running:
            coroutine.close()


def is_thrown_away(loop: asyncio.AbstractEventLoop | None) -> bool:
    """
    Tell whether the coroutine that asks is being closed, after its event loop was.

    An error of what it awaits would go to nobody but the log.

    :param loop: its event loop, ``None`` if it used none: then it is told by none that runs
    """
    if not isinstance(sys.exception(), GeneratorExit):
        return False
    if loop is not None:
        return loop.is_closed()
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return True
    return False


def abort(transport: Any, loop: asyncio.AbstractEventLoop) -> None:
    """Close a transport at once; if its loop is closed, without that."""
    if not loop.is_closed():
        transport.abort()
        return
    # Privates of asyncio's: elsewhere the collector warns of a transport that was not closed.
    plain: Any = getattr(getattr(transport, "_ssl_protocol", None), "_transport", transport)
    for each in {transport, plain}:
        with contextlib.suppress(Exception):
            each.abort()  # which has the closed loop do the rest
    with contextlib.suppress(Exception):
        plain._call_connection_lost(None)
