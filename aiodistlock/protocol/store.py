"""What is asked of a store; the numbers in replies stay inside of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

from aiodistlock.core.keys import LockKeys
from aiodistlock.protocol.answers import (
    AbandonReply,
    AcquireReply,
    InspectReply,
    LeaderReply,
    PassOnReply,
    ProclaimReply,
    ReleaseReply,
    RenewReply,
)
from aiodistlock.protocol.call import Call
from aiodistlock.protocol.connection import Connection


class Store(Protocol):
    """
    Where locks are kept.

    Each operation has the effect of exactly one, however often it is sent.  Methods
    do not block and do not raise: they issue the request and return its call.
    """

    @property
    def connection(self) -> Connection:
        """What brings the requests there, and the grants here."""
        ...

    def acquire(
        self,
        keys: LockKeys,
        token: bytes,
        ttl_ms: int,
        grant_ttl_ms: int | None,
        on_reply: Callable[[AcquireReply], object],
    ) -> Call[AcquireReply]:
        """Take the lock, or queue for it with ``grant_ttl_ms``; ``None``: only try."""
        ...

    def pass_on(
        self,
        keys: LockKeys,
        token: bytes,
        next_token: bytes,
        *,
        ttl_ms: int,
        grant_ttl_ms: int,
        highest: int,
        on_reply: Callable[[PassOnReply], object],
    ) -> Call[PassOnReply]:
        """Let the next process have the lock and queue again, or keep it."""
        ...

    def release(
        self,
        keys: LockKeys,
        value: bytes,
        highest: int,
        until: float,
    ) -> Call[ReleaseReply]:
        """
        Give the lock up.

        :param value: what stands at the key: see ``core/value.py``
        :param highest: highest fencing token used by local hand-offs, 0 for none
        :param until: local instant at which the key expires anyway: no answer is
            waited for after it
        """
        ...

    def renew(
        self,
        keys: LockKeys,
        value: bytes,
        ttl_ms: int,
        on_reply: Callable[[RenewReply], object] | None = None,
        until: float = math.inf,
    ) -> Call[RenewReply]:
        """
        Set the remaining time of the lease to ``ttl_ms``.

        :param value: what stands at the key
        :param until: local instant after which no answer is waited for
        """
        ...

    def abandon(self, keys: LockKeys, token: bytes, grant_ttl_ms: int | None) -> Call[AbandonReply]:
        """Undo an acquisition: leave the queue, give up what was granted."""
        ...

    def inspect(self, keys: LockKeys) -> Call[InspectReply]:
        """Ask who holds the lock and who waits."""
        ...


class ElectionStore(Store, Protocol):
    """Where elections can be held: one server has all of a name."""

    def leader(self, keys: LockKeys) -> Call[LeaderReply]:
        """Ask who leads, and what it proclaims."""
        ...

    def proclaim(
        self, keys: LockKeys, value: bytes, text: bytes, ttl_ms: int
    ) -> Call[ProclaimReply]:
        """Proclaim a text as the leader for ``ttl_ms``; 0: behind the end, take it back."""
        ...

    def hear_leaders(self, keys: LockKeys) -> bool:
        """
        See to it that announcements of leaders are heard, and that the owner is told of each.

        Returns whether they are heard now; once they are, the owner is told as of one.
        """
        ...
