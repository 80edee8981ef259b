"""The store without Redis, for users' unit tests: the scripts, said in Python.

It passes the same contract tests.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from aiodistlock.core.keys import LockKeys
from aiodistlock.core.mark import KEPT, Mark
from aiodistlock.core.value import token_of, value_of
from aiodistlock.deployments.memory.entry import Entry, Waiting
from aiodistlock.deployments.memory.group import is_group, letter_of
from aiodistlock.deployments.memory.permits import MemoryPermits
from aiodistlock.deployments.memory.reading import GONE, OTHER, ReadersInMemory
from aiodistlock.protocol.answers import (
    AbandonReply,
    AcquireReply,
    AlreadyMarked,
    BeginReply,
    Done,
    Failed,
    Granted,
    Held,
    Inspected,
    InspectReply,
    Kept,
    LeaderReply,
    Led,
    Looked,
    LookReply,
    PassOnReply,
    ProclaimReply,
    Queued,
    ReleaseReply,
    Renewed,
    RenewReply,
)
from aiodistlock.protocol.call import Call
from aiodistlock.protocol.marks import Ending


class MemoryStore(MemoryPermits, ReadersInMemory):
    """
    One client's access to a :class:`MemoryServer`.

    :param connection: carries the operations there
    """

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
            if self.permits(keys.key, now).leases:
                return Failed(TypeError("permits of a semaphore of this name are held"), False, now)
            entry = self._server.entry(keys.key, now)
            if entry.holder == token:
                entry.expires_at = now + ttl_ms / 1000
            elif entry.holder is None:
                if grant_ttl_ms is not None and entry.queue:
                    self._join(entry, token, grant_ttl_ms)
                if not self._server.grant_next(keys.key, entry, now, token, ttl_ms):
                    entry.holder, entry.fence = token, self._server.issue_fence(now)
                    entry.expires_at = now + ttl_ms / 1000
                    if letter_of(token):
                        entry.version = None
            if entry.holder == token:
                others_wait = bool(entry.queue)
                return Granted(entry.fence, int(now * 1e6), now, others_wait=others_wait)
            assert entry.holder is not None
            holder, left = entry.holder.decode(), entry.expires_at - now
            if grant_ttl_ms is None:
                return Held(holder, left)
            self._join(entry, token, grant_ttl_ms)
            self._server.recall(keys.key, entry.holder)
            return Queued(holder, left, list(entry.queue).index(token), int(now * 1e6), now)

        return self._run(operation, on_reply)

    def _join(self, entry: Entry, token: bytes, grant_ttl_ms: int) -> None:
        entry.queue.setdefault(token, Waiting(token, self.connection.channel, grant_ttl_ms))

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
                return GONE if entry.holder is None else OTHER
            self._server.counter = max(self._server.counter, highest)
            writes = letter_of(token) is not None
            if writes:
                entry.version = max(highest, entry.fence)
            if not self._server.grant_next(keys.key, entry, now, None, 0):
                if writes:
                    entry.version = None
                entry.fence = self._server.issue_fence(now)
                entry.expires_at = now + ttl_ms / 1000
                return Kept(entry.fence, int(now * 1e6), now)
            self._join(entry, next_token, grant_ttl_ms)
            position = list(entry.queue).index(next_token)
            left = entry.expires_at - now
            return Queued(entry.holder.decode(), left, position, int(now * 1e6), now)

        return self._run(operation, on_reply)

    def release(
        self,
        keys: LockKeys,
        value: bytes,
        highest: int,
        until: float,  # noqa: ARG002  # memory answers in time
    ) -> Call[ReleaseReply]:
        """Give the lock up, to the next waiter if there is one."""

        def operation(now: float) -> ReleaseReply:
            entry = self._server.entry(keys.key, now)
            if self._server.leave(keys.key, entry, now, token_of(value)):
                return Done()
            if not entry.holds(value):
                return GONE if entry.holder is None else OTHER
            self._server.counter = max(self._server.counter, highest)
            if highest and letter_of(token_of(value)):
                entry.version = highest
            self._give_up(keys, entry, now)
            return Done()

        return self._run(operation)

    def _give_up(self, keys: LockKeys, entry: Entry, now: float) -> None:
        if not self._server.grant_next(keys.key, entry, now, None, 0):
            entry.holder = None

    def renew(
        self,
        keys: LockKeys,
        value: bytes,
        ttl_ms: int,
        on_reply: Callable[[RenewReply], object] | None = None,
        until: float = math.inf,  # noqa: ARG002  # memory answers in time
    ) -> Call[RenewReply]:
        """Set the remaining time of the lease."""

        def operation(now: float) -> RenewReply:
            entry = self._server.entry(keys.key, now)
            if self._server.renew_reader(entry, now, token_of(value), ttl_ms):
                return Renewed(now, len(entry.queue))
            if not entry.holds(value):
                return GONE if entry.holder is None else OTHER
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
            if is_group(entry):
                if not self._server.leave(keys.key, entry, now, token):
                    self._server.settle(keys.key, entry, now)
            elif entry.holder == token:
                self._give_up(keys, entry, now)
            return Done()

        return self._run(operation)

    def inspect(self, keys: LockKeys) -> Call[InspectReply]:
        """Tell who holds the lock and who waits."""

        def operation(now: float) -> InspectReply:
            entry = self._server.entry(keys.key, now)
            waiters = tuple(token.decode() for token in entry.queue)
            if entry.holder is None:
                return Inspected(None, None, 0, waiters)
            return Inspected(entry.holder.decode(), entry.expires_at - now, entry.fence, waiters)

        return self._run(operation)

    def look(self, keys: LockKeys) -> Call[LookReply]:
        """Tell what time it is, who holds the name, and what was done last."""

        def operation(now: float) -> LookReply:
            holder = self._server.entry(keys.key, now).holder
            token = None if holder is None else holder.decode()
            return Looked(self._time_us(now), token, self._server.mark(keys.key, now))

        return self._run(operation)

    def begin(
        self, keys: LockKeys, value: bytes, window_us: int, mark_ttl_ms: int
    ) -> Call[BeginReply]:
        """Mark a window as begun, under our lease."""

        def operation(now: float) -> BeginReply:
            entry, mark = self._server.entry(keys.key, now), self._server.mark(keys.key, now)
            if not entry.holds(value):
                return GONE if entry.holder is None else OTHER
            if mark is not None and mark.refuses(window_us):
                return AlreadyMarked(mark)
            self._mark(keys, value, window_us, now, mark_ttl_ms, done=False)
            return Done()

        return self._run(operation)

    def finish(
        self,
        keys: LockKeys,
        value: bytes,
        ending: Ending,
        until: float,  # noqa: ARG002  # memory answers in time
    ) -> Call[ReleaseReply]:
        """Mark a window as done, and give the lock up, or keep the name for a while."""

        def operation(now: float) -> ReleaseReply:
            entry = self._server.entry(keys.key, now)
            if not entry.holds(value):
                return GONE if entry.holder is None else OTHER
            self._mark(keys, value, ending.window_us, now, ending.mark_ttl_ms, done=True)
            left = (ending.kept_until_us - self._time_us(now)) / 1e6
            if left > 0.0:
                entry.holder, entry.expires_at = KEPT.encode() + token_of(value), now + left
            else:
                self._give_up(keys, entry, now)
            return Done()

        return self._run(operation)

    def leader(self, keys: LockKeys) -> Call[LeaderReply]:
        """Tell who leads, and what it proclaims."""

        def operation(now: float) -> LeaderReply:
            entry = self._server.entry(keys.key, now)
            if entry.holder is None:
                return Led(None, None, 0, None)
            by, text = entry.proclaimed or (b"", b"")
            proclaimed = text.decode() if by == value_of(entry.holder, entry.fence) else None
            left = entry.expires_at - now
            return Led(entry.holder.decode(), left, entry.fence, proclaimed)

        return self._run(operation)

    def proclaim(
        self, keys: LockKeys, value: bytes, text: bytes, ttl_ms: int
    ) -> Call[ProclaimReply]:
        """Proclaim a text, or take it back; see ``proclaim.lua``."""

        def operation(now: float) -> ProclaimReply:
            entry = self._server.entry(keys.key, now)
            ours, found = entry.holds(value), entry.proclaimed
            if ttl_ms == 0:
                ended = not ours
                if found is not None and found[0] == value:
                    entry.proclaimed = None
                elif found is not None and entry.holds(found[0]):
                    ended = False  # a successor has announced that
                if ended:
                    self._server.announce(keys.proclamation)
            elif not ours:
                return GONE if entry.holder is None else OTHER
            elif found != (value, text):
                entry.proclaimed = (value, text)
                self._server.announce(keys.proclamation)
            return Done()

        return self._run(operation)

    def _time_us(self, now: float) -> int:
        return int(now * 1e6) + self._server.epoch_us

    def _mark(
        self,
        keys: LockKeys,
        value: bytes,
        window_us: int,
        now: float,
        mark_ttl_ms: int,
        *,
        done: bool,
    ) -> None:
        mark = Mark(window_us, done, self._time_us(now), token_of(value).decode())
        self._server.marks[keys.key] = (mark, now + mark_ttl_ms / 1000)

    def hear_leaders(self, keys: LockKeys) -> bool:
        """Hear announcements from now on."""
        return self.connection.hear_leaders(keys)
