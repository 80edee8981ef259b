"""What is asked of a store besides, to have semaphores in it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from aiodistlock.core.keys import LockKeys
from aiodistlock.protocol.answers import (
    AbandonReply,
    InspectPermitsReply,
    PermitsReply,
    ReleaseReply,
    RenewReply,
)
from aiodistlock.protocol.call import Call
from aiodistlock.protocol.store import Store


class Want(NamedTuple):
    """What one lease is wanted for, under a token of its own."""

    token: bytes
    permits: int
    waits: bool
    """Whether to queue for it; else it is only tried."""


class PermitStore(Store, Protocol):
    """
    A store that counts the permits of a name in one place.

    A quorum is none: of three users and two permits each node may have another two.
    """

    def acquire_permits(
        self,
        keys: LockKeys,
        wants: Sequence[Want],
        *,
        limit: int,
        ttl_ms: int,
        grant_ttl_ms: int,
        on_reply: Callable[[PermitsReply], object],
    ) -> Call[PermitsReply]:
        """Take permits, as far as they are free; queue for the rest, in this order."""
        ...

    def release_permits(
        self, keys: LockKeys, value: bytes, highest: int, until: float
    ) -> Call[ReleaseReply]:
        """
        Give a lease of permits up.

        :param value: what stands for it: see ``core/permits.py``
        :param highest: highest fencing token used by local hand-offs, 0 for none
        :param until: local instant at which it ends anyway: no answer is waited for after it
        """
        ...

    def renew_permits(
        self,
        keys: LockKeys,
        value: bytes,
        ttl_ms: int,
        on_reply: Callable[[RenewReply], object] | None = None,
        until: float = math.inf,
    ) -> Call[RenewReply]:
        """Set the remaining time of a lease of permits; as ``Store.renew``."""
        ...

    def abandon_permits(
        self, keys: LockKeys, wants: Sequence[Want], limit: int, grant_ttl_ms: int
    ) -> Call[AbandonReply]:
        """Undo acquisitions: leave the queue, give up what was had."""
        ...

    def inspect_permits(self, keys: LockKeys) -> Call[InspectPermitsReply]:
        """Ask who holds permits and who waits."""
        ...
