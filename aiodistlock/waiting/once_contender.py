"""A contender whose lease may end with the mark of a window, which is left in the same step."""

from __future__ import annotations

from typing import cast

from aiodistlock.core.keys import LockKeys
from aiodistlock.leases.process_lease import ProcessLease
from aiodistlock.protocol.answers import ReleaseReply
from aiodistlock.protocol.call import Call
from aiodistlock.protocol.marks import Ending, Marks
from aiodistlock.waiting.attempt import Attempt
from aiodistlock.waiting.client_state import ClientState
from aiodistlock.waiting.contender import Contender


class OnceContender(Contender):
    """
    Contends for one lease, on behalf of one task: nothing is handed over in memory.

    :ivar ending: what the release leaves; ``None``: nothing, as any release
    """

    __slots__ = ("ending",)

    def __init__(self, client: ClientState[Attempt], keys: LockKeys) -> None:
        super().__init__(client, keys)
        self.ending: Ending | None = None

    def release_at_redis(self, lease: ProcessLease) -> Call[ReleaseReply]:
        """Send the request that gives the lock up, with the mark if there is to be one."""
        if self.ending is None:
            return super().release_at_redis(lease)
        marks = cast("Marks", self.client.store)
        return marks.finish(self.keys, lease.value, self.ending, lease.matters_until)
