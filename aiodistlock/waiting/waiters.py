"""The tasks that wait their turn in this process for one name, first come, first served."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from typing import Any, Protocol, TypeVar

from aiodistlock.core.options import LockOptions
from aiodistlock.events.story import Story
from aiodistlock.leases.process_lease import Holder, ProcessLease
from aiodistlock.waiting.client_state import ClientState

H_co = TypeVar("H_co", bound=Holder, covariant=True)


class MakeHolder(Protocol[H_co]):
    """Builds what the waiter gets: who contends does not know the public ``Lease``."""

    def __call__(
        self,
        client: ClientState[Any],
        process_lease: ProcessLease,
        fence: int,
        task: asyncio.Task[object] | None,
        owner: object,
        /,
    ) -> H_co:
        """Build the holder of a lease, with its own fencing token."""
        ...


class Waiter:
    """
    One local task that wants the lock.

    :param task: the task, to recognise it when it comes again
    :param waits: whether it waits its turn; else it is refused if it must
    :param owner: kept alive while the task waits or holds
    :param story: for those who listen; ``None`` if nobody does
    """

    __slots__ = (
        "entered_at",
        "future",
        "lease",
        "make_holder",
        "options",
        "owner",
        "story",
        "task",
        "waits",
    )

    def __init__(  # noqa: PLR0917  # runs for every lease, and keywords cost
        self,
        future: asyncio.Future[Holder | None],
        options: LockOptions,
        make_holder: MakeHolder[Holder],
        task: asyncio.Task[object] | None,
        owner: object,
        waits: bool,
        story: Story | None,
    ) -> None:
        self.future = future
        self.options = options
        self.make_holder = make_holder
        self.task = task
        self.owner = owner
        self.waits = waits
        self.story = story
        self.entered_at: float
        self.lease: ProcessLease
        """What it was granted, once its future has a holder."""

    def refuse(self) -> None:
        """Tell that the lock is not free, to a task that does not wait."""
        if not self.future.done():
            self.future.set_result(None)
            if self.story is not None:
                self.story.abandoned("refused")

    def fail(self, error: Exception) -> None:
        """Raise an error in the waiting task."""
        if not self.future.done():
            self.future.set_exception(error)
            if self.story is not None:
                self.story.failed(error)


class Waiters:
    """
    A queue that its members leave from anywhere, by finishing their future.

    Who has left is dropped at the head, and from the middle in bulk, so that leaving
    costs a constant time on average.
    """

    __slots__ = ("_left", "_rest", "head")

    def __init__(self) -> None:
        self.head: Waiter | None = None
        """The first, who may have left; ``None``: there is nobody."""
        # Made when a second one comes: an empty deque takes 600 bytes.
        self._rest: deque[Waiter] | None = None
        self._left = 0

    def __iter__(self) -> Iterator[Waiter]:
        if self.head is not None:
            yield self.head
            yield from self._rest or ()

    def push(self, waiter: Waiter) -> None:
        """Add a waiter at the tail."""
        if self.head is None:
            self.head = waiter
        elif self._rest is None:
            self._rest = deque((waiter,))
        else:
            self._rest.append(waiter)

    def first(self) -> Waiter | None:
        """Return the first waiter that is still there."""
        while self.head is not None:
            if not self.head.future.done():
                return self.head
            self._drop_head()
            self._left -= 1
        self._left = 0
        return None

    def pop(self) -> Waiter | None:
        """Take out the first waiter that is still there."""
        waiter = self.head
        if waiter is not None and not waiter.future.done():
            self.head = self._rest.popleft() if self._rest else None
            return waiter
        waiter = self.first()
        if waiter is not None:
            self._drop_head()
        return waiter

    def _drop_head(self) -> None:
        self.head = self._rest.popleft() if self._rest else None

    def note_left(self) -> None:
        """Take note that a waiter has left."""
        self._left += 1
        rest = self._rest
        if rest and self._left > 16 and self._left > len(rest) // 2:
            self._rest = deque(waiter for waiter in rest if not waiter.future.done())
            self._left = 0
