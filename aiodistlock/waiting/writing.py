"""What one process does about writing a name that others read.

A writer is a holder of the plain lock: the same queue, hand-offs and lease.  What it wrote is a
version, so its release always says which fencing token was used last: that is what the readers
behind it read.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from aiodistlock.leases.process_lease import ProcessLease
from aiodistlock.leases.shared_lease import Share
from aiodistlock.protocol.answers import ReleaseReply
from aiodistlock.protocol.call import Call
from aiodistlock.waiting.attempt import Attempt
from aiodistlock.waiting.contender import Contender
from aiodistlock.waiting.dead_lock import task_in_block
from aiodistlock.waiting.reading import LetteredAttempt


class WriteAttempt(LetteredAttempt):
    """One acquisition at Redis for those here who want to write."""

    __slots__ = ()

    letter = b"w"

    def ask(self) -> None:
        """Send the request, or send it again."""
        self.moved = False
        self.cancel_timer()
        self.call = self.store.write(
            self.keys, self.token, self.options.ttl_ms, self.queue_ms, self.answered
        )


class WriteContender(Contender):
    """Contends for one name on behalf of those tasks of this process that want to write."""

    __slots__ = ()

    attempt_type: ClassVar[type[Attempt]] = WriteAttempt

    def release_at_redis(self, lease: ProcessLease) -> Call[ReleaseReply]:
        """Send the request that gives the lock up, and says what was written last."""
        highest = lease.fence + lease.handoffs
        return self.client.store.release(self.keys, lease.value, highest, lease.matters_until)

    def on_renewal_due(self, lease: ProcessLease) -> None:
        """As for a lock, also where nobody waits to write: who waits to read does so elsewhere."""
        self.client.loop.call_soon(self._end_dead_lock, lease)

    def holding_tasks(self) -> list[asyncio.Task[Any]]:
        """Return the task here that writes, or those that read."""
        return super().holding_tasks() or [
            task
            for (key, _), shares in self.client.reading.items()
            if key == self.keys.key
            for share in shares
            if self.waits_for(share) and (task := task_in_block(share)) is not None
        ]

    def waits_for(self, _share: Share) -> bool:
        """Tell whether a reader here keeps us from writing."""
        return True

    def give_away(self, lease: ProcessLease) -> None:
        """Have a lease no more: its holder reads from now on."""
        self.let_go(lease)
        first = self.waiters.first()
        if first is not None:
            self.ask(first)
