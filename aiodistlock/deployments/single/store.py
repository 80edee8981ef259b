"""The store on one Redis, or on one cluster: what carries the calls makes the difference."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from aiodistlock.connection.pipe_like import Inboxes, PipeLike
from aiodistlock.core.keys import LockKeys
from aiodistlock.protocol import leader_calls, mark_calls, permit_calls, reader_calls
from aiodistlock.protocol.answers import (
    AbandonReply,
    AcquireReply,
    BeginReply,
    ClaimReply,
    DowngradeReply,
    InspectPermitsReply,
    InspectReply,
    LeaderReply,
    LookReply,
    MoveEndReply,
    PassOnReply,
    PermitsReply,
    ProclaimReply,
    ReleaseReply,
    RenewReply,
    UpgradeReply,
)
from aiodistlock.protocol.call import R
from aiodistlock.protocol.marks import Ending
from aiodistlock.protocol.operations import Operations
from aiodistlock.protocol.permits import Want
from aiodistlock.protocol.redis_call import RedisCall
from aiodistlock.protocol.scripts import Script


class SingleStore:
    """
    Locks on one Redis: each operation is one script, sent through one pipe.

    :param connection: the pipe, or what spreads the calls over a cluster's
    :param inboxes: where this client hears its grants
    :param operations: makes the calls
    """

    def __init__(
        self,
        connection: PipeLike,
        inboxes: Inboxes,
        operations: Operations,
    ) -> None:
        self.connection = connection
        self._inboxes = inboxes
        self._operations = operations

    def _run(self, call: RedisCall[R]) -> RedisCall[R]:
        self.connection.submit(call)
        return call

    def acquire(
        self,
        keys: LockKeys,
        token: bytes,
        ttl_ms: int,
        grant_ttl_ms: int | None,
        on_reply: Callable[[AcquireReply], object],
    ) -> RedisCall[AcquireReply]:
        """Take the lock, or queue for it; while no inbox is open, only try."""
        # Who queues without listening is passed over as dead: rather only try, and poll.
        inbox = self._inboxes.open_address(keys) if grant_ttl_ms is not None else b""
        call = self._operations.acquire(keys, token, ttl_ms, inbox, grant_ttl_ms or 0, on_reply)
        self.connection.submit(call)
        return call

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
    ) -> RedisCall[PassOnReply]:
        """Let the next process have the lock and queue again, or keep it."""
        # The inbox is named also while nobody listens: the place in the queue is lost
        # then, as any dead waiter's, and our next request asks for a new one.
        call = self._operations.pass_on(
            keys,
            token,
            next_token,
            ttl_ms=ttl_ms,
            highest=highest,
            inbox=self._inboxes.address_to_queue(keys),
            grant_ttl_ms=grant_ttl_ms,
            on_reply=on_reply,
        )
        return self._run(call)

    def release(
        self,
        keys: LockKeys,
        value: bytes,
        highest: int,
        until: float,
    ) -> RedisCall[ReleaseReply]:
        """Give the lock up, to the next waiter if there is one."""
        call = self._operations.release(keys, value, highest)
        call.until = until
        self.connection.submit(call)
        return call

    def renew(
        self,
        keys: LockKeys,
        value: bytes,
        ttl_ms: int,
        on_reply: Callable[[RenewReply], object] | None = None,
        until: float = math.inf,
    ) -> RedisCall[RenewReply]:
        """Set the remaining time of the lease."""
        call = self._operations.renew(keys, value, ttl_ms, on_reply)
        call.until = until
        self.connection.submit(call)
        return call

    def abandon(
        self, keys: LockKeys, token: bytes, grant_ttl_ms: int | None
    ) -> RedisCall[AbandonReply]:
        """Undo an acquisition, behind the request that it undoes."""
        inbox = b"" if grant_ttl_ms is None else self._inboxes.address_of(keys)
        return self._run(self._operations.abandon(keys, token, inbox, grant_ttl_ms or 0))

    def look(self, keys: LockKeys) -> RedisCall[LookReply]:
        """Ask what time it is, who holds the name, and what was done last."""
        return self._run(mark_calls.look(keys))

    def begin(
        self, keys: LockKeys, value: bytes, window_us: int, mark_ttl_ms: int
    ) -> RedisCall[BeginReply]:
        """Mark a window as begun, under our lease."""
        return self._run(mark_calls.begin(self._operations, keys, value, window_us, mark_ttl_ms))

    def finish(
        self, keys: LockKeys, value: bytes, ending: Ending, until: float
    ) -> RedisCall[ReleaseReply]:
        """Mark a window as done, and give the lock up, or keep the name for a while."""
        call = mark_calls.finish(self._operations, keys, value, ending)
        call.until = until
        return self._run(call)

    def acquire_permits(
        self,
        keys: LockKeys,
        wants: Sequence[Want],
        *,
        limit: int,
        ttl_ms: int,
        grant_ttl_ms: int,
        on_reply: Callable[[PermitsReply], object],
    ) -> RedisCall[PermitsReply]:
        """Take permits, or queue for them; while no inbox is open, only try."""
        waits = any(want.waits for want in wants)
        call = permit_calls.acquire_permits(
            self._operations,
            keys,
            wants,
            limit=limit,
            ttl_ms=ttl_ms,
            inbox=self._inboxes.open_address(keys) if waits else b"",
            grant_ttl_ms=grant_ttl_ms,
            on_reply=on_reply,
        )
        return self._run(call)

    def release_permits(
        self, keys: LockKeys, value: bytes, highest: int, until: float
    ) -> RedisCall[ReleaseReply]:
        """Give a lease of permits up, to the first in the queue while they fit."""
        call = permit_calls.release_permits(self._operations, keys, value, highest)
        call.until = until
        return self._run(call)

    def renew_permits(
        self,
        keys: LockKeys,
        value: bytes,
        ttl_ms: int,
        on_reply: Callable[[RenewReply], object] | None = None,
        until: float = math.inf,
    ) -> RedisCall[RenewReply]:
        """Set the remaining time of a lease of permits."""
        call = permit_calls.renew_permits(keys, value, ttl_ms, on_reply)
        call.until = until
        return self._run(call)

    def abandon_permits(
        self, keys: LockKeys, wants: Sequence[Want], limit: int, grant_ttl_ms: int
    ) -> RedisCall[AbandonReply]:
        """Undo acquisitions of permits, behind the requests that they undo."""
        inbox = self._inboxes.address_of(keys)
        call = permit_calls.abandon_permits(
            self._operations, keys, wants, limit, inbox, grant_ttl_ms
        )
        return self._run(call)

    def inspect_permits(self, keys: LockKeys) -> RedisCall[InspectPermitsReply]:
        """Ask who holds permits and who waits."""
        return self._run(permit_calls.inspect_permits(keys))

    def claim(
        self, keys: LockKeys, value: bytes, wanted: bytes, ttl_ms: int
    ) -> RedisCall[ClaimReply]:
        """Put another value at the key of our lease, for ``ttl_ms`` from now on, 0: for ever."""
        return self._run(self._operations.claim(keys, value, wanted, ttl_ms))

    def move_end(
        self, keys: LockKeys, value: bytes, from_ms: int = 0, by_ms: int = 0
    ) -> RedisCall[MoveEndReply]:
        """
        Move the end of our lease if it is ``from_ms`` by the server's clock.

        From 0: set it to ``by_ms`` from now; by 0, too: only ask.
        """
        return self._run(self._operations.move_end(keys, value, from_ms, by_ms))

    def inspect(self, keys: LockKeys) -> RedisCall[InspectReply]:
        """Ask who holds the lock and who waits."""
        return self._run(self._operations.inspect(keys))

    def leader(self, keys: LockKeys) -> RedisCall[LeaderReply]:
        """Ask who leads, and what it proclaims."""
        return self._run(leader_calls.leader(keys))

    def proclaim(
        self, keys: LockKeys, value: bytes, text: bytes, ttl_ms: int
    ) -> RedisCall[ProclaimReply]:
        """Proclaim a text as the leader for ``ttl_ms``; 0: behind the end, take it back."""
        return self._run(leader_calls.proclaim(self._operations, keys, value, text, ttl_ms))

    def hear_leaders(self, keys: LockKeys) -> bool:
        """See to it that announcements of leaders are heard; tell whether they are now."""
        return self.connection.hear_leaders(keys)

    def read(
        self,
        keys: LockKeys,
        token: bytes,
        ttl_ms: int,
        grant_ttl_ms: int | None,
        on_reply: Callable[[AcquireReply], object],
    ) -> RedisCall[AcquireReply]:
        """Hold as a reader, or queue for it; while no inbox is open, only try."""
        script = self._operations.scripts.read
        return self._acquire_by(script, keys, token, ttl_ms, grant_ttl_ms, on_reply)

    def write(
        self,
        keys: LockKeys,
        token: bytes,
        ttl_ms: int,
        grant_ttl_ms: int | None,
        on_reply: Callable[[AcquireReply], object],
    ) -> RedisCall[AcquireReply]:
        """Hold as the writer, or queue for it; while no inbox is open, only try."""
        script = self._operations.scripts.write
        return self._acquire_by(script, keys, token, ttl_ms, grant_ttl_ms, on_reply)

    def _acquire_by(  # noqa: PLR0917  # as acquire
        self,
        script: Script,
        keys: LockKeys,
        token: bytes,
        ttl_ms: int,
        grant_ttl_ms: int | None,
        on_reply: Callable[[AcquireReply], object],
    ) -> RedisCall[AcquireReply]:
        inbox = self._inboxes.open_address(keys) if grant_ttl_ms is not None else b""
        operations, grant_ms = self._operations, grant_ttl_ms or 0
        return self._run(
            reader_calls.acquire_by(
                script, operations, keys, token, ttl_ms, inbox, grant_ms, on_reply
            )
        )

    def upgrade(  # noqa: PLR0917  # as acquire
        self,
        keys: LockKeys,
        reader: bytes,
        token: bytes,
        ttl_ms: int,
        grant_ttl_ms: int | None,
        on_reply: Callable[[UpgradeReply], object],
    ) -> RedisCall[UpgradeReply]:
        """Make a reader the writer, or queue for that before all others."""
        inbox = self._inboxes.open_address(keys) if grant_ttl_ms is not None else b""
        operations, grant_ms = self._operations, grant_ttl_ms or 0
        return self._run(
            reader_calls.upgrade(operations, keys, reader, token, ttl_ms, inbox, grant_ms, on_reply)
        )

    def downgrade(
        self, keys: LockKeys, token: bytes, reader: bytes, ttl_ms: int, highest: int
    ) -> RedisCall[DowngradeReply]:
        """Make the writer a reader, under another token."""
        return self._run(
            reader_calls.downgrade(self._operations, keys, token, reader, ttl_ms, highest)
        )

    def stay_reader(
        self, keys: LockKeys, token: bytes, reader: bytes, ttl_ms: int, grant_ttl_ms: int | None
    ) -> RedisCall[DowngradeReply]:
        """Undo an upgrade, behind the request that it undoes."""
        inbox = self._inboxes.address_of(keys) if grant_ttl_ms is not None else b""
        operations, grant_ms = self._operations, grant_ttl_ms or 0
        return self._run(
            reader_calls.downgrade(operations, keys, token, reader, ttl_ms, 0, inbox, grant_ms)
        )
