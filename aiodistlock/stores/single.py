"""The store on one Redis."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol, cast

from aiodistlock.core.keys import LockKeys
from aiodistlock.core.options import to_ms
from aiodistlock.stores import scripts
from aiodistlock.stores.base import (
    AbandonReply,
    AcquireReply,
    Call,
    Done,
    Failed,
    Granted,
    Held,
    Inspected,
    InspectReply,
    Kept,
    NotOurs,
    PassOnReply,
    Queued,
    R,
    ReleaseReply,
    Renewed,
    RenewReply,
)

# The codes of prelude.lua.
_GRANTED, _QUEUED, _HELD, _DONE, _GONE, _OTHER = range(1, 7)

_NOT_OURS = {
    _GONE: NotOurs("its key is gone from Redis (expired, deleted or flushed)"),
    _OTHER: NotOurs("another token is at its key"),
}

QUEUE_TTL_MS = 30_000
"""How long a queue outlives its last visitor; a live waiter visits every second."""

# Refusals that pass: the server starts, is busy, is read-only after a failover, or
# lacks memory or replicas.  Everything else (WRONGTYPE, NOPERM, NOAUTH) stays.
_TRANSIENT = frozenset(
    {
        "BUSY",
        "CLUSTERDOWN",
        "LOADING",
        "MASTERDOWN",
        "MISCONF",
        "NOREPLICAS",
        "OOM",
        "READONLY",
        "TRYAGAIN",
    }
)


class RedisCall(Call[R]):
    """A call that runs a script: what to send, and how to read the answer."""

    __slots__ = ("args", "decode", "issued_at", "script", "tag", "until")

    def __init__(
        self,
        script: scripts.Script,
        args: tuple[bytes | int, ...],
        decode: Callable[[list[Any], float], R],
        on_reply: Callable[[R], object] | None = None,
    ) -> None:
        super().__init__(on_reply)
        self.script = script
        self.args = args
        self.decode = decode
        self.tag = 0
        self.issued_at = 0.0
        """Local instant at which it was first sent, or wanted to be."""
        self.until = math.inf
        """Local instant after which no answer is waited for."""

    def refuse(self, error: Exception) -> None:
        """Deliver an error that the server answered."""
        code = str(error).partition(" ")[0]
        self._fail(Failed(error, code in _TRANSIENT, self.issued_at))

    def fail(self, error: Exception, *, transient: bool = True) -> None:
        """Deliver that no answer will come; the request is not sent again."""
        self.obsolete = True
        self._fail(Failed(error, transient, self.issued_at))

    def _fail(self, failed: Failed) -> None:
        self.finish(cast(R, failed))  # every kind of reply includes Failed


class Wire(Protocol):
    """What carries calls to one Redis, in order; see ``engine/pipe.py``."""

    @property
    def listening(self) -> bool:
        """Whether grants are heard now."""
        ...

    def listen(self) -> None:
        """See to it that grants are heard soon."""
        ...

    def submit(self, call: RedisCall[Any]) -> None:
        """Send a call with the others of this loop turn."""
        ...

    def suspect(self, call: RedisCall[Any]) -> None:
        """Take note that a call stayed unanswered for longer than it should."""
        ...

    async def aclose(self) -> None:
        """Send what was submitted, within a bound, and close."""
        ...

    def stop(self) -> None:
        """Close at once."""
        ...


def _seconds(milliseconds: int) -> float | None:
    return milliseconds / 1000 if milliseconds >= 0 else None


def _queued(reply: list[Any], sent_at: float) -> Queued:
    _, _, remaining, holder, server_us, position = reply
    return Queued(
        holder.decode(errors="replace"), _seconds(remaining), position, server_us, sent_at
    )


def _decode_acquire(reply: list[Any], sent_at: float) -> AcquireReply:
    code = reply[0]
    if code == _GRANTED:
        return Granted(reply[2], reply[3], sent_at)
    if code == _QUEUED:
        return _queued(reply, sent_at)
    return Held(reply[3].decode(errors="replace"), _seconds(reply[2]))


def _decode_pass_on(reply: list[Any], sent_at: float) -> PassOnReply:
    code = reply[0]
    if code == _DONE:
        return Kept(reply[2], reply[3], sent_at)
    if code == _GRANTED:
        return Granted(reply[2], reply[3], sent_at)
    if code == _QUEUED:
        return _queued(reply, sent_at)
    return _NOT_OURS[code]


def _decode_renew(reply: list[Any], sent_at: float) -> RenewReply:
    if reply[0] == _DONE:
        return Renewed(sent_at, reply[2])
    return _NOT_OURS[reply[0]]


def _decode_release(reply: list[Any], _sent_at: float) -> ReleaseReply:
    return Done() if reply[0] == _DONE else _NOT_OURS[reply[0]]


def _decode_abandon(_reply: list[Any], _sent_at: float) -> AbandonReply:
    return Done()


def _decode_inspect(reply: list[Any], _sent_at: float) -> InspectReply:
    _, _, holder, remaining, fence, records = reply
    waiters = tuple(record.rsplit(b" ", 1)[-1].decode(errors="replace") for record in records)
    return Inspected(
        holder.decode(errors="replace") if remaining != -2 else None,
        _seconds(remaining),
        fence,
        waiters,
    )


class SingleStore:
    """
    Locks on one Redis: each operation is one script, sent through one pipe.

    :param wire: the pipe
    :param channel: the inbox, on which this client hears its grants
    :param fence_retention: seconds for which a fence counter outlives its last lease
    """

    def __init__(self, wire: Wire, channel: bytes, fence_retention: float) -> None:
        self._wire = wire
        self._channel = channel
        self._retention = b"%d" % to_ms(fence_retention)

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
        inbox = self._channel if grant_ttl_ms is not None and self._wire.listening else b""
        args = (
            keys.key,
            keys.fence,
            keys.queue,
            token,
            ttl_ms,
            self._retention,
            inbox,
            grant_ttl_ms or 0,
            QUEUE_TTL_MS,
        )
        return self._run(RedisCall(scripts.ACQUIRE, args, _decode_acquire, on_reply))

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
        args = (
            keys.key,
            keys.fence,
            keys.queue,
            token,
            next_token,
            ttl_ms,
            highest,
            self._retention,
            self._channel,
            grant_ttl_ms,
            QUEUE_TTL_MS,
        )
        return self._run(RedisCall(scripts.PASS_ON, args, _decode_pass_on, on_reply))

    def release(
        self,
        keys: LockKeys,
        token: bytes,
        highest: int,
        until: float,
    ) -> RedisCall[ReleaseReply]:
        """Give the lock up, to the next waiter if there is one."""
        args = (keys.key, keys.fence, keys.queue, token, highest, self._retention)
        call = RedisCall(scripts.RELEASE, args, _decode_release)
        call.until = until
        return self._run(call)

    def renew(
        self,
        keys: LockKeys,
        token: bytes,
        ttl_ms: int,
        on_reply: Callable[[RenewReply], object] | None = None,
        until: float = math.inf,
    ) -> RedisCall[RenewReply]:
        """Set the remaining time of the lease."""
        args = (keys.key, keys.fence, keys.queue, token, ttl_ms, self._retention)
        call = RedisCall(scripts.RENEW, args, _decode_renew, on_reply)
        call.until = until
        return self._run(call)

    def abandon(
        self, keys: LockKeys, token: bytes, grant_ttl_ms: int | None
    ) -> RedisCall[AbandonReply]:
        """Undo an acquisition, behind the request that it undoes."""
        inbox = b"" if grant_ttl_ms is None else self._channel
        args = (
            keys.key,
            keys.fence,
            keys.queue,
            token,
            inbox,
            grant_ttl_ms or 0,
            self._retention,
        )
        return self._run(RedisCall(scripts.ABANDON, args, _decode_abandon))

    def inspect(self, keys: LockKeys) -> RedisCall[InspectReply]:
        """Ask who holds the lock and who waits."""
        args = (keys.key, keys.fence, keys.queue)
        return self._run(RedisCall(scripts.INSPECT, args, _decode_inspect))

    @property
    def listening(self) -> bool:
        """Whether grants are heard now, so that queueing makes sense."""
        return self._wire.listening

    def listen(self) -> None:
        """See to it that grants are heard soon."""
        self._wire.listen()

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
