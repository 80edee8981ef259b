"""The store without Redis, for users' unit tests: the scripts, said in Python.

It answers in the next turn of the loop, as Redis would some time later, and passes
the same contract tests.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

from aiodistlock.core.clock import Clock, ServerClock
from aiodistlock.core.keys import LockKeys
from aiodistlock.stores.answers import (
    AbandonReply,
    AcquireReply,
    Done,
    Granted,
    Held,
    Inspected,
    InspectReply,
    Kept,
    NotOurs,
    PassOnReply,
    Queued,
    ReleaseReply,
    Renewed,
    RenewReply,
)
from aiodistlock.stores.base import Call, R
from aiodistlock.stores.memory_server import Deliver, Entry, MemoryServer, Waiting, issue_fence

_GONE = NotOurs("its key is gone (expired or deleted)")
_OTHER = NotOurs("another token is at its key")


class MemoryStore:
    """
    One client's access to a :class:`MemoryServer`.

    :param on_grant: gets each grant, as :class:`Deliver` says
    """

    def __init__(
        self, server: MemoryServer, channel: bytes, on_grant: Deliver, clock: Clock
    ) -> None:
        self._server = server
        self._channel = channel
        self._clock = clock
        self.one_clock = ServerClock()
        self._loop = asyncio.get_running_loop()
        self._stopped = False

        def deliver(fence: int, server_us: int, ttl_ms: int, token: bytes, key: bytes) -> None:
            self._loop.call_soon(on_grant, fence, server_us, ttl_ms, token, key)

        server.inboxes[channel] = deliver

    def _run(
        self, operation: Callable[[float], R], on_reply: Callable[[R], object] | None = None
    ) -> Call[R]:
        call = Call(on_reply)
        call.sent_at = self._clock()

        def answer() -> None:
            if not (call.obsolete and self._stopped):
                call.finish(operation(self._clock()))

        self._loop.call_soon(answer)
        return call

    def acquire(
        self,
        keys: LockKeys,
        token: bytes,
        ttl_ms: int,
        grant_ttl_ms: int | None,
        on_reply: Callable[[AcquireReply], object],
    ) -> Call[AcquireReply]:
        """Take the lock, or queue for it; see ``acquire.lua``."""

        def operation(now: float) -> AcquireReply:
            entry = self._server.entry(keys.key, now)
            if entry.holder == token:
                entry.expires_at = now + ttl_ms / 1000
                return Granted(entry.fence, int(now * 1e6), now)
            if entry.holder is None:
                if grant_ttl_ms is not None and entry.queue:
                    self._join(entry, token, grant_ttl_ms)
                if not self._server.grant_next(keys.key, entry, now, token, ttl_ms):
                    issue_fence(entry, now)
                    entry.holder, entry.expires_at = token, now + ttl_ms / 1000
                if entry.holder == token:
                    return Granted(entry.fence, int(now * 1e6), now)
            assert entry.holder is not None
            holder, left = entry.holder.decode(), entry.expires_at - now
            if grant_ttl_ms is None:
                return Held(holder, left)
            self._join(entry, token, grant_ttl_ms)
            return Queued(holder, left, list(entry.queue).index(token), int(now * 1e6), now)

        return self._run(operation, on_reply)

    def _join(self, entry: Entry, token: bytes, grant_ttl_ms: int) -> None:
        entry.queue.setdefault(token, Waiting(token, self._channel, grant_ttl_ms))

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
        """Let the next client have the lock and queue again, or keep it."""

        def operation(now: float) -> PassOnReply:
            entry = self._server.entry(keys.key, now)
            if entry.holder != token:
                return _GONE if entry.holder is None else _OTHER
            entry.fence = max(entry.fence, highest)
            if not self._server.grant_next(keys.key, entry, now, None, 0):
                entry.holder, entry.expires_at = token, now + ttl_ms / 1000
                return Kept(issue_fence(entry, now), int(now * 1e6), now)
            self._join(entry, next_token, grant_ttl_ms)
            position = list(entry.queue).index(next_token)
            left = entry.expires_at - now
            return Queued(entry.holder.decode(), left, position, int(now * 1e6), now)

        return self._run(operation, on_reply)

    def release(
        self,
        keys: LockKeys,
        token: bytes,
        highest: int,
        until: float,  # noqa: ARG002  # memory answers in time
    ) -> Call[ReleaseReply]:
        """Give the lock up, to the next waiter if there is one."""

        def operation(now: float) -> ReleaseReply:
            entry = self._server.entry(keys.key, now)
            if entry.holder != token:
                return _GONE if entry.holder is None else _OTHER
            entry.fence = max(entry.fence, highest)
            self._give_up(keys, entry, now)
            return Done()

        return self._run(operation)

    def _give_up(self, keys: LockKeys, entry: Entry, now: float) -> None:
        if not self._server.grant_next(keys.key, entry, now, None, 0):
            entry.holder = None

    def renew(
        self,
        keys: LockKeys,
        token: bytes,
        ttl_ms: int,
        on_reply: Callable[[RenewReply], object] | None = None,
        until: float = math.inf,  # noqa: ARG002  # memory answers in time
    ) -> Call[RenewReply]:
        """Set the remaining time of the lease."""

        def operation(now: float) -> RenewReply:
            entry = self._server.entry(keys.key, now)
            if entry.holder != token:
                return _GONE if entry.holder is None else _OTHER
            entry.expires_at = now + ttl_ms / 1000
            return Renewed(now, len(entry.queue))

        return self._run(operation, on_reply)

    def abandon(
        self,
        keys: LockKeys,
        token: bytes,
        grant_ttl_ms: int | None,  # noqa: ARG002  # the token finds its place here
    ) -> Call[AbandonReply]:
        """Undo an acquisition."""

        def operation(now: float) -> AbandonReply:
            entry = self._server.entry(keys.key, now)
            entry.queue.pop(token, None)
            if entry.holder == token:
                self._give_up(keys, entry, now)
            return Done()

        return self._run(operation)

    def inspect(self, keys: LockKeys) -> Call[InspectReply]:
        """Tell who holds the lock and who waits."""

        def operation(now: float) -> InspectReply:
            entry = self._server.entry(keys.key, now)
            waiters = tuple(token.decode() for token in entry.queue)
            if entry.holder is None:
                return Inspected(None, None, entry.fence, waiters)
            return Inspected(entry.holder.decode(), entry.expires_at - now, entry.fence, waiters)

        return self._run(operation)

    def listen(self, keys: LockKeys) -> bool:  # noqa: ARG002  # grants are always heard
        """Tell that grants are heard."""
        return True

    def server_clock(self, call: Call[Any]) -> ServerClock:  # noqa: ARG002  # there is only one
        """Return the one clock that there is, as of the last answer."""
        return self.one_clock

    def suspect(self, call: Call[Any]) -> None:
        """Memory does not fall silent."""

    async def aclose(self) -> None:
        """Let what was issued run, and hear no grants any more."""
        await asyncio.sleep(0)
        self.stop()

    def stop(self) -> None:
        """Hear no grants any more."""
        self._stopped = True
        self._server.inboxes.pop(self._channel, None)

    @property
    def stopped(self) -> bool:
        """Whether no grants are heard any more."""
        return self._stopped

    def disown(self) -> None:
        """Do nothing: a child process has a copy of the memory."""
