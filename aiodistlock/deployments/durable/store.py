"""Locks that are held only once replicas or the disk have them.

What gives possession (an acquisition, a renewal) is
answered by the pipe only behind the acknowledgement of a :class:`Barrier`; what was not
acknowledged in time is undone here, behind it, and answered with a passing failure.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from redis.exceptions import ResponseError

from aiodistlock.connection.pipe_like import Inboxes, PipeLike
from aiodistlock.core.ack import Ack
from aiodistlock.core.clock import Clock
from aiodistlock.core.keys import LockKeys
from aiodistlock.deployments.single.store import SingleStore
from aiodistlock.protocol.answers import (
    AcquireReply,
    Failed,
    PassOnReply,
    RenewReply,
)
from aiodistlock.protocol.operations import Operations
from aiodistlock.protocol.redis_call import RedisCall
from aiodistlock.protocol.refusals import error_code, is_transient


class NotAcknowledged(Exception):
    """Too few replicas, or not the disk, acknowledged in time."""


class Barrier:
    """
    The command that waits for the acknowledgement of all writes before it.

    One stands behind each write of the pipe, however many acquisitions that carries.

    :param ack: what must be acknowledged
    """

    def __init__(self, ack: Ack, clock: Clock) -> None:
        self.ack = ack
        self._clock = clock
        self._in_use: dict[int, float] = {}
        """Each ttl in use, in ms, and the local instant at which its leases are over."""
        self._failing_since: float | None = None

    def note(self, ttl_ms: int) -> None:
        """Take note that a lease of ``ttl_ms`` may be held from now on."""
        self._in_use[ttl_ms] = self._clock() + ttl_ms / 1000

    def command(self) -> tuple[tuple[bytes | int, ...], float]:
        """
        Return the command, and after how many seconds the server answers it at the latest.

        It stalls the connection, so it is bounded by the shortest lease that must be
        renewed over it meanwhile.
        """
        now = self._clock()
        self._in_use = {ttl: until for ttl, until in self._in_use.items() if until > now}
        within_ms = self.ack.within_ms(min(self._in_use, default=math.inf))
        if self.ack.fsync:
            return (b"WAITAOF", 1, 0, within_ms), within_ms / 1000
        return (b"WAIT", self.ack.replicas, within_ms), within_ms / 1000

    def missing(self, reply: Any, since: float) -> Failed | None:
        """
        Read the reply: ``None`` if all that was asked for has acknowledged.

        :param since: local instant since which the oldest write was under way
        :raises ValueError: if it is no such reply
        """
        cause: Exception
        transient = True
        if isinstance(reply, ResponseError):
            cause, transient = self._refusal(reply)
        else:
            count, wanted = self._count(reply), 1 if self.ack.fsync else self.ack.replicas
            if count >= wanted:
                self._failing_since = None
                return None
            cause = NotAcknowledged(
                "not written to the server's disk in time"
                if self.ack.fsync
                else f"{count} of {wanted} replicas acknowledged in time"
            )
        # Since when no acquisition succeeds, though answers that decide nothing come.
        self._failing_since = since if self._failing_since is None else self._failing_since
        return Failed(cause, transient, self._failing_since)

    def _count(self, reply: Any) -> int:
        """Return how many acknowledged: WAIT says one number, WAITAOF two."""
        count = reply[0] if self.ack.fsync and type(reply) is list and len(reply) == 2 else reply
        if type(count) is not int:
            raise ValueError("no answer to a wait for the acknowledgement")
        return count

    def _refusal(self, reply: ResponseError) -> tuple[Exception, bool]:
        """Return what to tell, and whether it passes."""
        text = str(reply)
        if "unknown command" in text.lower():
            return NotAcknowledged(f"ack='fsync' needs Redis 7.2 or later ({text})"), False
        if "appendonly" in text:
            return NotAcknowledged(f"ack='fsync' needs `appendonly yes` ({text})"), False
        # A replica refuses to wait: it was the master, or will be.  A master that is made
        # one while it waits says so, and hangs up.
        passes = (
            is_transient(reply) or error_code(reply) == "UNBLOCKED" or "replica instances" in text
        )
        return NotAcknowledged(f"the wait for the acknowledgement was refused: {text}"), passes


class DurableStore(SingleStore):
    """
    A store whose leases are acknowledged before they are held.

    :param barrier: that of its connection
    """

    def __init__(
        self, connection: PipeLike, inboxes: Inboxes, operations: Operations, barrier: Barrier
    ) -> None:
        super().__init__(connection, inboxes, operations)
        self._barrier = barrier

    def acquire(
        self,
        keys: LockKeys,
        token: bytes,
        ttl_ms: int,
        grant_ttl_ms: int | None,
        on_reply: Callable[[AcquireReply], object],
    ) -> RedisCall[AcquireReply]:
        """Take the lock, or queue for it; what is not acknowledged is given up."""

        def answered(reply: AcquireReply) -> None:
            if _unacknowledged(reply):
                self.abandon(keys, token, grant_ttl_ms)
            on_reply(reply)

        self._barrier.note(ttl_ms)
        return super().acquire(keys, token, ttl_ms, grant_ttl_ms, answered)

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
        """Let the next process have the lock, or keep it, if that is acknowledged."""

        def answered(reply: PassOnReply) -> None:
            if _unacknowledged(reply):
                # The engine releases ``token``, which it held; not what it queued with.
                self.abandon(keys, next_token, grant_ttl_ms)
            on_reply(reply)

        self._barrier.note(ttl_ms)
        return super().pass_on(
            keys,
            token,
            next_token,
            ttl_ms=ttl_ms,
            grant_ttl_ms=grant_ttl_ms,
            highest=highest,
            on_reply=answered,
        )

    def renew(
        self,
        keys: LockKeys,
        value: bytes,
        ttl_ms: int,
        on_reply: Callable[[RenewReply], object] | None = None,
        until: float = math.inf,
    ) -> RedisCall[RenewReply]:
        """Set the remaining time; not acknowledged, it decides nothing."""
        self._barrier.note(ttl_ms)
        return super().renew(keys, value, ttl_ms, on_reply, until)


def _unacknowledged(reply: object) -> bool:
    return isinstance(reply, Failed) and isinstance(reply.cause, NotAcknowledged)
