"""The lease by which the readers of one process hold a name together.

At Redis it is one reader's.  Each local reader has a share: a lease with a holder, a loss and a
release of its own, which lasts as long as the one that is renewed.
"""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Any

from aiodistlock.core.options import LockOptions
from aiodistlock.leases.process_lease import Possessor, ProcessLease

_numbers = count(1)


class SharedLease(ProcessLease):
    """What the watchdog renews."""

    __slots__ = ("checking", "shares")

    def __init__(  # noqa: PLR0917  # as ProcessLease
        self,
        possessor: Possessor,
        keys: Any,
        token: bytes,
        fence: int,
        server_us: int,
        options: LockOptions,
        deadline: float,
    ) -> None:
        super().__init__(possessor, keys, token, fence, server_us, options, deadline)
        self.shares: set[Share] = set()
        """Of those that read now."""
        self.checking = False
        """Whether it is being asked whether anybody waits, so that no more may join."""

    def confirm(self, deadline: float) -> None:
        """Take in that the server lets the lease last until ``deadline``."""
        super().confirm(deadline)
        self._tell()

    def expect(self, deadline: float) -> None:
        """Take in that the server may let the lease last until ``deadline`` only."""
        super().expect(deadline)
        self._tell()

    def _tell(self) -> None:
        for share in self.shares:
            share.deadline = self.deadline
            share.due_at = self.due_at


class Share(ProcessLease):
    """
    What one local reader has of it.

    :param task: the one that reads
    """

    __slots__ = ("shared", "task")

    def __init__(
        self, shared: SharedLease, options: LockOptions, task: asyncio.Task[Any] | None
    ) -> None:
        super().__init__(
            shared.possessor,
            shared.keys,
            shared.token,
            shared.fence,
            shared.server_us,
            options,
            shared.deadline,
        )
        self.span_ends_at = shared.span_ends_at
        self.shared = shared
        self.task = task
        # Of one key there are many.
        self.held_as = b"%b %b %d" % (shared.keys.key, shared.token, next(_numbers))

    @property
    def renewed_as(self) -> ProcessLease:
        """The lease that is renewed where this one is to last longer."""
        return self.shared
