"""Where a task stands, coroutine in coroutine; asked when a lease was lost, or a wait was in vain.

Coroutines tell what they await, but not through which async generator, and not whether an
exception is on its way through them.  The garbage collector is told both (``tp_traverse``
of generators visits the exception that they handle), and ``gc.get_referents`` passes it
on.  Where it did not, a clean-up would look like code that swallowed its cancellation.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from enum import Enum, auto
from types import AsyncGeneratorType, CoroutineType, FrameType, GeneratorType
from typing import Any

# Privates of asyncio's, as anyio uses them.
_AWAITED = "_fut_waiter"
_MUST_CANCEL = "_must_cancel"

UNTOLD: Any = object()
"""What a task awaits, where asyncio does not tell it."""

_CODE = (CoroutineType, GeneratorType, AsyncGeneratorType)
_PREFIXES = ("cr", "gi", "ag")

_CANCEL_AND_WAIT = getattr(getattr(asyncio.tasks, "_cancel_and_wait", None), "__code__", None)
"""The part of ``asyncio.wait_for`` that waits for the end of the task that it cancelled."""


def awaited_by(task: asyncio.Task[Any]) -> Any:
    """Return the future that a task waits for; ``None`` if it is about to run, or runs."""
    return getattr(task, _AWAITED, UNTOLD)


def is_inside(task: asyncio.Task[Any], frame: FrameType | None) -> bool:
    """Tell whether a task runs, or awaits something, in a frame."""
    return any(_frame(each) is frame for each in _chain(task))


def frames_of(task: asyncio.Task[Any]) -> Iterator[FrameType]:
    """Walk through the frames of a task that is suspended, to the innermost."""
    yield from filter(None, map(_frame, _chain(task)))


class Way(Enum):
    """What a task does after it was cancelled."""

    RUNS = auto()
    """It is about to, or what it waits for: then it is seen."""
    LEAVES = auto()
    """The cancellation is on its way out, and it cleans up meanwhile."""
    STAYS = auto()
    """It took no notice, or swallowed it."""


def way_of(task: asyncio.Task[Any], frame: FrameType | None = None) -> Way:
    """
    Tell what a task does that was cancelled.

    :param frame: what is around it says nothing, if the task is in it
    """
    awaited = awaited_by(task)
    runs = isinstance(awaited, asyncio.Future) and awaited.done()
    if runs or getattr(task, _MUST_CANCEL, False):
        return Way.RUNS
    leaves = False
    for each in _chain(task):
        if frame is not None and _frame(each) is frame:
            leaves = False
        leaves = leaves or any(map(_is_cancellation, gc.get_referents(each)))
    if leaves:
        return Way.LEAVES
    # ``cancel()`` was passed on to these: to a task, or by ``asyncio.gather`` to several.
    gathered = [awaited] if isinstance(awaited, asyncio.Task) else getattr(awaited, "_children", ())
    ways = {way_of(each) for each in gathered if isinstance(each, asyncio.Task) and not each.done()}
    if Way.RUNS in ways:
        return Way.RUNS
    return Way.LEAVES if ways == {Way.LEAVES} else Way.STAYS


def innermost(task: asyncio.Task[Any]) -> asyncio.Task[Any]:
    """
    Return the task whose end a task awaits at any price; mostly there is none: itself.

    ``asyncio.wait_for``, before Python 3.12, has a task of its own for what it awaits.  Once
    it has cancelled that, another cancellation would part them, and one would run on.
    """
    for each in _chain(task):
        if _CANCEL_AND_WAIT is not None and getattr(each, "cr_code", None) is _CANCEL_AND_WAIT:
            inner = each.cr_frame.f_locals.get("fut")
            if isinstance(inner, asyncio.Task):
                return innermost(inner)
    return task


def _chain(task: asyncio.Task[Any]) -> Iterator[Any]:
    """Walk from a task's coroutine to what is innermost."""
    following: list[Any] = [task.get_coro()]
    seen: dict[int, Any] = {}
    while following:
        each = following.pop()
        if id(each) in seen:
            continue  # what somebody's own awaitable refers to may lead back
        seen[id(each)] = each
        yield each
        for prefix, what in zip(_PREFIXES, ("await", "yieldfrom", "await"), strict=True):
            if hasattr(each, f"{prefix}_{what}"):
                following += filter(None, [getattr(each, f"{prefix}_{what}")])
                break
        else:  # what iterates an async generator, say
            following += [it for it in gc.get_referents(each) if _belongs(it)]


def _belongs(it: object) -> bool:
    return isinstance(it, _CODE) or type(it).__name__.startswith("async_generator")


def _frame(each: object) -> FrameType | None:
    for prefix in _PREFIXES:
        frame: FrameType | None = getattr(each, f"{prefix}_frame", None)
        if frame is not None:
            return frame
    return None


def _is_cancellation(found: object) -> bool:
    """Tell whether it is a cancellation, or an error that one has become."""
    seen: set[int] = set()
    while isinstance(found, BaseException) and id(found) not in seen:
        if isinstance(found, asyncio.CancelledError):
            return True
        seen.add(id(found))
        found = found.__context__
    return False
