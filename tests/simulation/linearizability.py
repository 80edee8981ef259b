"""Whether a history of operations on a lock can have come about one after the other.

An operation takes effect at one instant between its invocation and its answer. A history is
linearizable if there are such instants with which a lock alone, that does one thing after the
other, gives every answer (Herlihy and Wing, TOPLAS 1990). The search is that of Wing and Gong
(1993) with the states that were seen remembered (Lowe, 2017), as in porcupine: take any operation
that may come first, see whether the model allows it, go on; where an answer is due of one that was
not taken, go back.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from enum import Enum, auto
from typing import NamedTuple


class Does(Enum):
    """What an operation does."""

    ACQUIRE = auto()
    RELY = auto()
    """To extend a lease, or to find that it is held."""
    END = auto()
    """To release a lease, or not to rely on it any more."""


class Operation(NamedTuple):
    """One operation on one name, with the fencing token of the lease that it is about."""

    asked_at: float
    answered_at: float
    does: Does
    fence: int


class FencedLock(NamedTuple):
    """
    The model: who holds the lock, told by the fencing token, and the last one that was given.

    ``last`` is the same as ``holder`` while there is one.
    """

    holder: int | None = None
    last: int = 0

    def after(self, operation: Operation) -> FencedLock | None:
        """Return the state after an operation; ``None`` if it cannot happen now."""
        fence = operation.fence
        if operation.does is Does.ACQUIRE:
            free = self.holder is None and fence > self.last
            return FencedLock(fence, fence) if free else None
        if self.holder != fence:
            return None
        return self if operation.does is Does.RELY else FencedLock(None, self.last)


def operations_of(
    fence: int,
    asked_at: float,
    began_at: float,
    relied_on: Iterable[tuple[float, float]],
    until: float,
) -> list[Operation]:
    """
    Return what a holder did with a lease.

    :param relied_on: from when to when it was asked whether it still had the lease, and it had
    :param until: up to when it relied on it for certain; it ends at any time after that
    """
    return [
        Operation(asked_at, began_at, Does.ACQUIRE, fence),
        *(Operation(asked, answered, Does.RELY, fence) for asked, answered in relied_on),
        Operation(until, math.inf, Does.END, fence),
    ]


class _Entry:
    """The invocation of an operation, or its answer, in a list of both by time."""

    __slots__ = ("answer", "before", "behind", "number", "operation")

    def __init__(self, number: int, operation: Operation | None, answer: _Entry | None) -> None:
        self.number = number
        self.operation = operation
        self.answer = answer
        self.before: _Entry
        self.behind: _Entry | None = None

    def take_out(self) -> None:
        """Take an operation out of the list."""
        assert self.answer is not None
        for each in (self, self.answer):
            each.before.behind = each.behind
            if each.behind is not None:
                each.behind.before = each.before

    def put_back(self) -> None:
        """Put it back where it was."""
        assert self.answer is not None
        for each in (self.answer, self):
            each.before.behind = each
            if each.behind is not None:
                each.behind.before = each


def _in_order(operations: Sequence[Operation]) -> _Entry:
    """Return what stands before the list of all invocations and answers."""
    entries: list[tuple[float, int, _Entry]] = []
    for number, operation in enumerate(operations):
        answer = _Entry(number, None, None)
        entries.append((operation.asked_at, 0, _Entry(number, operation, answer)))
        entries.append((operation.answered_at, 1, answer))
    # What is at the same instant may have come in any order.
    entries.sort(key=lambda each: each[:2])
    first = last = _Entry(-1, None, None)
    for _, _, entry in entries:
        entry.before, last.behind = last, entry
        last = entry
    return first


def stuck_at(operations: Sequence[Operation]) -> Operation | None:
    """
    Return an operation that cannot have been answered so; ``None`` if all can.

    It is the one whose answer was reached by no order, of those the latest.
    """
    first = _in_order(operations)
    state, done = FencedLock(), 0
    seen = {(done, state)}
    taken: list[tuple[_Entry, FencedLock]] = []
    worst = -1, -1
    entry = first.behind
    while entry is not None:
        if entry.operation is None:
            worst = max(worst, (len(taken), entry.number))
            if not taken:
                return operations[worst[1]]
            entry, state = taken.pop()
            done &= ~(1 << entry.number)
            entry.put_back()
            entry = entry.behind
            continue
        following = state.after(entry.operation)
        if following is None or (done | 1 << entry.number, following) in seen:
            entry = entry.behind
            continue
        taken.append((entry, state))
        done, state = done | 1 << entry.number, following
        seen.add((done, state))
        entry.take_out()
        entry = first.behind
    return None
