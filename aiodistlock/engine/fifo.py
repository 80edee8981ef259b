"""The local waiters for one name, first come, first served."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from aiodistlock.engine.waiter import Waiter


class Fifo:
    """
    A queue that its members leave from anywhere, by finishing their future.

    Who has left is dropped at the head, and from the middle in bulk, so that leaving
    costs a constant time on average.
    """

    __slots__ = ("_head", "_left", "_rest")

    def __init__(self) -> None:
        self._head: Waiter | None = None
        # Made when a second one comes: an empty deque takes 600 bytes.
        self._rest: deque[Waiter] | None = None
        self._left = 0

    def __iter__(self) -> Iterator[Waiter]:
        if self._head is not None:
            yield self._head
            yield from self._rest or ()

    def push(self, waiter: Waiter) -> None:
        """Add a waiter at the tail."""
        if self._head is None:
            self._head = waiter
        elif self._rest is None:
            self._rest = deque((waiter,))
        else:
            self._rest.append(waiter)

    def first(self) -> Waiter | None:
        """Return the first waiter that is still there."""
        while self._head is not None:
            if not self._head.future.done():
                return self._head
            self._drop_head()
            self._left -= 1
        self._left = 0
        return None

    def pop(self) -> Waiter | None:
        """Take out the first waiter that is still there."""
        waiter = self._head
        if waiter is not None and not waiter.future.done():
            self._head = self._rest.popleft() if self._rest else None
            return waiter
        waiter = self.first()
        if waiter is not None:
            self._drop_head()
        return waiter

    def _drop_head(self) -> None:
        self._head = self._rest.popleft() if self._rest else None

    def note_left(self) -> None:
        """Take note that a waiter has left."""
        self._left += 1
        rest = self._rest
        if rest and self._left > 16 and self._left > len(rest) // 2:
            self._rest = deque(waiter for waiter in rest if not waiter.future.done())
            self._left = 0
