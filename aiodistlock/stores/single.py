"""The store on one Redis, or on one cluster: what carries the calls makes the difference."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from aiodistlock.core.clock import ServerClock
from aiodistlock.core.keys import LockKeys
from aiodistlock.core.options import to_ms
from aiodistlock.stores import replies, scripts
from aiodistlock.stores.answers import (
    AbandonReply,
    AcquireReply,
    ClaimReply,
    InspectReply,
    MoveEndReply,
    PassOnReply,
    ReleaseReply,
    RenewReply,
)
from aiodistlock.stores.base import Call, R
from aiodistlock.stores.redis_call import Inboxes, RedisCall, Wire, bulks

QUEUE_TTL_MS = 30_000
"""How long a queue outlives its last visitor; a live waiter visits every second, or at
least every ten, whatever its backoff."""


@lru_cache(maxsize=64)
def _acquire_args(ttl_ms: int, retention: bytes, inbox: bytes, grant_ttl_ms: int) -> bytes:
    """Pack the arguments of ``acquire.lua`` behind the token, which are mostly the same."""
    return bulks(ttl_ms, retention, inbox, grant_ttl_ms, QUEUE_TTL_MS)


@lru_cache(maxsize=64)
def _renew_args(ttl_ms: int, retention: bytes) -> bytes:
    """Pack the arguments of ``renew.lua`` behind the token."""
    return bulks(ttl_ms, retention)


class SingleStore:
    """
    Locks on one Redis: each operation is one script, sent through one pipe.

    :param wire: the pipe, or what spreads the calls over a cluster's
    :param inboxes: where this client hears its grants
    :param fence_retention: seconds for which a fence counter outlives its last lease
    :param operations: the scripts to run
    """

    def __init__(
        self,
        wire: Wire,
        inboxes: Inboxes,
        fence_retention: float,
        operations: scripts.Operations = scripts.ON_ONE,
    ) -> None:
        self._wire = wire
        self._inboxes = inboxes
        self._scripts = operations
        self._retention = b"%d" % to_ms(fence_retention)
        self._not_reported = bulks(0, self._retention)

    def _run(self, call: RedisCall[R]) -> RedisCall[R]:
        self._wire.submit(call)
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
        inbox = self._inboxes.open_channel(keys) if grant_ttl_ms is not None else b""
        rest = _acquire_args(ttl_ms, self._retention, inbox, grant_ttl_ms or 0)
        args = b"$%d\r\n%b\r\n%b" % (len(token), token, rest)
        call = RedisCall(self._scripts.acquire, keys, args, replies.acquire, on_reply)
        self._wire.submit(call)
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
        # The channel is named also while nobody listens: the place in the queue is lost
        # then, as any dead waiter's, and our next request asks for a new one.
        args = bulks(
            token,
            next_token,
            ttl_ms,
            highest,
            self._retention,
            self._inboxes.channel_to_queue(keys),
            grant_ttl_ms,
            QUEUE_TTL_MS,
        )
        return self._run(RedisCall(self._scripts.pass_on, keys, args, replies.pass_on, on_reply))

    def release(
        self,
        keys: LockKeys,
        token: bytes,
        highest: int,
        until: float,
    ) -> RedisCall[ReleaseReply]:
        """Give the lock up, to the next waiter if there is one."""
        rest = self._not_reported if highest == 0 else bulks(highest, self._retention)
        args = b"$%d\r\n%b\r\n%b" % (len(token), token, rest)
        call = RedisCall(self._scripts.release, keys, args, replies.release)
        call.until = until
        self._wire.submit(call)
        return call

    def renew(
        self,
        keys: LockKeys,
        token: bytes,
        ttl_ms: int,
        on_reply: Callable[[RenewReply], object] | None = None,
        until: float = math.inf,
    ) -> RedisCall[RenewReply]:
        """Set the remaining time of the lease."""
        args = b"$%d\r\n%b\r\n%b" % (len(token), token, _renew_args(ttl_ms, self._retention))
        call = RedisCall(self._scripts.renew, keys, args, replies.renew, on_reply)
        call.until = until
        self._wire.submit(call)
        return call

    def abandon(
        self, keys: LockKeys, token: bytes, grant_ttl_ms: int | None
    ) -> RedisCall[AbandonReply]:
        """Undo an acquisition, behind the request that it undoes."""
        inbox = b"" if grant_ttl_ms is None else self._inboxes.channel_of(keys)
        args = bulks(token, inbox, grant_ttl_ms or 0, self._retention)
        return self._run(RedisCall(self._scripts.abandon, keys, args, replies.abandon))

    def claim(
        self, keys: LockKeys, token: bytes, wanted: bytes, ttl_ms: int
    ) -> RedisCall[ClaimReply]:
        """Put our lease under another token, for ``ttl_ms`` from now on, 0: for ever."""
        args = bulks(token, wanted, ttl_ms, self._retention)
        return self._run(RedisCall(scripts.CLAIM, keys, args, replies.claim))

    def move_end(
        self, keys: LockKeys, token: bytes, from_ms: int = 0, by_ms: int = 0
    ) -> RedisCall[MoveEndReply]:
        """
        Move the end of our lease if it is ``from_ms`` by the server's clock.

        From 0: set it to ``by_ms`` from now; by 0, too: only ask.
        """
        args = bulks(token, from_ms, by_ms, self._retention)
        return self._run(RedisCall(scripts.MOVE_END, keys, args, replies.move_end))

    def inspect(self, keys: LockKeys) -> RedisCall[InspectReply]:
        """Ask who holds the lock and who waits."""
        return self._run(RedisCall(self._scripts.inspect, keys, b"", replies.inspect))

    def listen(self, keys: LockKeys) -> bool:
        """See to it that grants are heard soon; tell whether they are heard now."""
        return self._inboxes.listen(keys)

    def server_clock(self, call: Call[Any]) -> ServerClock:
        """Return the clock of the server that answered a call."""
        assert isinstance(call, RedisCall), "only our own calls get answers"
        return self._wire.server_clock(call)

    def suspect(self, call: Call[Any]) -> None:
        """Take note that a call stayed unanswered for longer than it should."""
        if isinstance(call, RedisCall):
            self._wire.suspect(call)

    async def aclose(self) -> None:
        """Send what was issued, within a bound, and close the pipe."""
        await self._wire.aclose()

    def stop(self) -> None:
        """Close the pipe at once."""
        self._wire.stop()

    @property
    def stopped(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._wire.stopped

    def disown(self) -> None:
        """Send nothing any more: after a fork the connection is the parent's."""
        self._wire.disown()
