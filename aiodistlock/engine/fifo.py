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

    __slots__ = ("_left", "_waiters")

    def __init__(self) -> None:
        # Made on the first wait: an empty deque takes 600 bytes.
        self._waiters: deque[Waiter] | None = None
        self._left = 0

    def __iter__(self) -> Iterator[Waiter]:
        return iter(self._waiters or ())

    def push(self, waiter: Waiter) -> None:
        """Add a waiter at the tail."""
        if self._waiters is None:
            self._waiters = deque()
        self._waiters.append(waiter)

    def first(self) -> Waiter | None:
        """Return the first waiter that is still there."""
        waiters = self._waiters
        while waiters:
            if not waiters[0].future.done():
                return waiters[0]
            waiters.popleft()
            self._left -= 1
        self._left = 0
        return None

    def pop(self) -> Waiter | None:
        """Take out the first waiter that is still there."""
        waiter = self.first()
        if waiter is not None and self._waiters is not None:
            self._waiters.popleft()
        return waiter

    def note_left(self) -> None:
        """Take note that a waiter has left."""
        self._left += 1
        waiters = self._waiters
        if waiters and self._left > 16 and self._left > len(waiters) // 2:
            self._waiters = deque(waiter for waiter in waiters if not waiter.future.done())
            self._left = 0
