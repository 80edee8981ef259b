"""The lease that this process has on permits of a semaphore: one of several on a name."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from aiodistlock.core.keys import LockKeys
from aiodistlock.core.options import LockOptions
from aiodistlock.core.permits import lease_of_permits
from aiodistlock.leases.process_lease import Possessor, ProcessLease
from aiodistlock.protocol.answers import Permit, RenewReply
from aiodistlock.protocol.call import Call
from aiodistlock.protocol.permits import PermitStore
from aiodistlock.protocol.store import Store


class PermitLease(ProcessLease):
    """
    One period of possession of permits by this process; local hand-offs change its holder.

    :ivar slots: the numbers of the permits, the lowest first
    """

    __slots__ = ("slots",)

    def __init__(  # noqa: PLR0917  # as ProcessLease
        self,
        possessor: Possessor,
        keys: LockKeys,
        permit: Permit,
        server_us: int,
        options: LockOptions,
        deadline: float,
    ) -> None:
        super().__init__(possessor, keys, permit.token, permit.fence, server_us, options, deadline)
        self.slots = permit.slots
        self.held_as = b"%b %b" % (keys.key, permit.token)  # each for itself

    @property
    def value(self) -> bytes:
        """What stands for it among the permits."""
        return lease_of_permits(self.token, self.fence, self.slots)

    def ask_to_renew(
        self, store: Store, ttl_ms: int, on_reply: Callable[[RenewReply], object], until: float
    ) -> Call[RenewReply]:
        """Send a request that sets the remaining time."""
        permits = cast("PermitStore", store)
        return permits.renew_permits(self.keys, self.value, ttl_ms, on_reply, until)
