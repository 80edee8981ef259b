"""A task that waits its turn in this process."""

from __future__ import annotations

import asyncio
from typing import Protocol

from aiodistlock.core.options import LockOptions
from aiodistlock.engine.process_lease import Holder, ProcessLease
from aiodistlock.engine.story import Story


class MakeHolder(Protocol):
    """Builds what the waiter gets: the engine does not know the public ``Lease``."""

    def __call__(self, process_lease: ProcessLease, fence: int, waiter: Waiter, /) -> Holder:
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
        make_holder: MakeHolder,
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
