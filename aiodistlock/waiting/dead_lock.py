"""Tasks of one process that wait for each other: each holds what the one before it wants.

Rules
-----
1. Nobody keeps a book of who waits for what: a plain wait costs nothing for this.  What a task
   waits for is read from its coroutines when somebody asks, and who holds that the client knows.
2. Asked is when a wait has run out of time: its error names the dead-lock.  And where somebody
   here waits for a lease that is due for renewal, as those of a dead-lock soon are, or they end
   by themselves: then its holder's own wait is ended, but only in a dead-lock without any timeout.
3. A lease is held by the task that acquired it, as where a task would wait for itself: that
   another one was given it to release is not seen.  Nor is what a task waits for by another one
   (in a group, say), and what another client or process has to do with.
"""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

from aiodistlock.core.escaping import quoted
from aiodistlock.leases.await_chain import awaited_by, frames_of
from aiodistlock.leases.process_lease import ProcessLease
from aiodistlock.waiting.grant import Grantee
from aiodistlock.waiting.waiters import Waiter

_ACQUIRE = "aiodistlock.waiting.acquire"
"""The module in whose frames tasks wait."""


class Wait(NamedTuple):
    """
    One of the waits of a dead-lock.

    :ivar endless: whether it has no timeout
    """

    task: asyncio.Task[Any]
    contender: Grantee
    waiter: Waiter
    endless: bool


def dead_lock_of(task: asyncio.Task[Any] | None) -> list[Wait]:
    """Return the waits of the dead-lock that a task is in, its own first; empty: it is in none."""
    waits: list[Wait] = []
    waiting = task
    while waiting is not None and (wait := _wait_of(waiting)) is not None:
        if any(wait.waiter is each.waiter for each in waits):
            break  # a dead-lock of others, for which it waits
        waits.append(wait)
        lease = wait.contender.client.holders.get(wait.contender.keys.key)
        waiting = None if lease is None else holding_task(lease)
        if waiting is task:
            return waits
    return []


def told(waits: list[Wait]) -> str:
    """Tell of a dead-lock."""
    first, *others = (quoted(wait.task.get_name()) for wait in waits)
    wanted, *more = (quoted(wait.contender.keys.name) for wait in waits)
    chain = f"task {first} waits for {wanted}, which "
    for holder, name in zip(others, more, strict=True):
        chain += f"task {holder} holds, which waits for {name}, which "
    return f"dead-lock: {chain}task {first} holds; have all take them in one order, or together()"


def holding_task(lease: ProcessLease) -> asyncio.Task[Any] | None:
    """Return the task that acquired a lease for itself."""
    holder = None if lease.holder is None else lease.holder()
    task: asyncio.Task[Any] | None = getattr(holder, "_task", None)
    return task


def _wait_of(task: asyncio.Task[Any]) -> Wait | None:
    """Return for what a task waits, ``None`` if for no holder."""
    awaited = awaited_by(task)
    for frame in frames_of(task):
        if frame.f_globals.get("__name__") == _ACQUIRE:
            known = frame.f_locals
            waiter = known.get("waiter")
            if isinstance(waiter, Waiter) and waiter.future is awaited and not awaited.done():
                return Wait(task, known["contender"], waiter, known["timeout"] is None)
    return None
