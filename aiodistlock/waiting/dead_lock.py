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
4. Permits are held by the task in whose block they are, as one that acquires them is often not the
   one that releases them, and what readers share as well.  Who waits for permits is stuck where too
   few are left without those of tasks that are stuck; who waits to write, where one that reads is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Container, Iterable
from typing import Any, NamedTuple, Protocol

from aiodistlock.core.escaping import quoted
from aiodistlock.core.keys import LockKeys
from aiodistlock.leases.await_chain import awaited_by, frames_of
from aiodistlock.leases.process_lease import ProcessLease
from aiodistlock.protocol.call import Call
from aiodistlock.waiting.waiters import Waiter

_ACQUIRE = "aiodistlock.waiting.acquire"
"""The module in whose frames tasks wait."""

Task = asyncio.Task[Any]


class Contended(Protocol):
    """What tasks here wait for."""

    keys: LockKeys

    def holding_tasks(self) -> Iterable[Task]:
        """Return the tasks here that hold it."""
        ...

    def is_stuck(self, waiter: Waiter, tasks: Container[Task]) -> bool:
        """Tell whether a task waits for ever where those tasks never go on."""
        ...

    def leave(self) -> Call[Any] | None:
        """Let a task go whose wait has ended."""
        ...


class Wait(NamedTuple):
    """
    One of the waits of a dead-lock.

    :ivar endless: whether it has no timeout
    """

    task: Task
    contender: Contended
    waiter: Waiter
    endless: bool


class DeadLock(NamedTuple):
    """
    Tasks that wait for each other.

    :ivar waits: each for what the task of the next one holds, the last for that of the first
    :ivar endless: whether nobody who is stuck with them has a timeout
    """

    waits: list[Wait]
    endless: bool

    def told(self) -> str:
        """Tell of it."""
        first, *others = (quoted(wait.task.get_name()) for wait in self.waits)
        wanted, *more = names = [quoted(wait.contender.keys.name) for wait in self.waits]
        chain = f"task {first} waits for {wanted}, which "
        for holder, name in zip(others, more, strict=True):
            chain += f"task {holder} holds, which waits for {name}, which "
        advice = "have all take them in one order, or together()"
        if len(set(names)) == 1:  # so these are permits
            advice = "have each acquire at once all that it needs, by hold(permits=...)"
        return f"dead-lock: {chain}task {first} holds; {advice}"


def dead_lock_of(task: Task | None) -> DeadLock | None:
    """Return the dead-lock that a task is in, its own wait first; ``None``: it is in none."""
    stuck = _stuck_with(task)
    if task is None or task not in stuck:
        return None
    waits = _ring(task, stuck)
    return DeadLock(waits, all(each.endless for each in stuck.values())) if waits else None


def _stuck_with(task: Task | None) -> dict[Task, Wait]:
    """Return the waits, of those for whom a task waits, that have no end."""
    found: dict[Task, Wait] = {}
    behind = [] if task is None else [task]
    while behind:
        each = behind.pop()
        if each not in found and (wait := _wait_of(each)) is not None:
            found[each] = wait
            behind += wait.contender.holding_tasks()
    # Until all that is left is stuck for no other reason than what is left.
    while free := [
        each for each, wait in found.items() if not wait.contender.is_stuck(wait.waiter, found)
    ]:
        for each in free:
            del found[each]
    return found


def _ring(task: Task, stuck: dict[Task, Wait]) -> list[Wait]:
    """Return the shortest way back to a task, through others if there is one; empty: none."""
    before: dict[Task, Task] = {}
    ends, itself = deque([task]), False
    while ends:
        at = ends.popleft()
        for holder in stuck[at].contender.holding_tasks():
            if holder is task:
                if at is not task:
                    way = [at]
                    while at is not task:
                        way.append(at := before[at])
                    return [stuck[each] for each in reversed(way)]
                itself = True
            elif holder in stuck and holder not in before:
                before[holder] = at
                ends.append(holder)
    # (Else a dead-lock of others, for which it waits.)
    return [stuck[task]] if itself else []


def holding_task(lease: ProcessLease) -> Task | None:
    """Return the task that acquired a lease for itself."""
    holder = None if lease.holder is None else lease.holder()
    task: Task | None = getattr(holder, "_task", None)
    return task


def task_in_block(lease: ProcessLease) -> Task | None:
    """Return the task in whose block a lease is held."""
    holder = None if lease.holder is None else lease.holder()
    task: Task | None = getattr(getattr(holder, "_body", None), "_task", None)
    return task


def _wait_of(task: Task) -> Wait | None:
    """Return for what a task waits, ``None`` if for no holder."""
    awaited = awaited_by(task)
    for frame in frames_of(task):
        if frame.f_globals.get("__name__") == _ACQUIRE:
            known = frame.f_locals
            waiter = known.get("waiter")
            if isinstance(waiter, Waiter) and waiter.future is awaited and not awaited.done():
                return Wait(task, known["contender"], waiter, known["timeout"] is None)
    return None
