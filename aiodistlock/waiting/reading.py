"""What one process does about reading a name: its readers share one lease at Redis.

Rules
-----
1. While its lease is open, whoever wants to read joins it, without a request.  It is open until
   ``handoff_span`` has passed since the grant; then, with whoever comes next, Redis is asked
   whether anybody waits.  If nobody does, it is open for another span; else it is closed.  So
   whoever waits to write does so for a span, and for as long as the last of those reads.
2. A closed lease goes on for those who have it.  Who comes later waits for another one, in the
   queue at Redis behind the writer: so first come, first served between processes.
3. When the last of its readers has left, a lease is given up.
4. A task that reads already joins what it has, whoever waits: it would wait for itself.

Closed leases are only known to their shares; the one that may be joined is ``process_lease``.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, ClassVar, cast

from aiodistlock.core.keys import LockKeys
from aiodistlock.core.options import LockOptions
from aiodistlock.errors import LockError
from aiodistlock.leases.process_lease import ProcessLease
from aiodistlock.leases.shared_lease import Share, SharedLease
from aiodistlock.leases.states import LeaseEvent
from aiodistlock.protocol.answers import (
    Granted,
    Held,
    Queued,
    ReleaseReply,
    Renewed,
    RenewReply,
)
from aiodistlock.protocol.call import Call
from aiodistlock.protocol.grant_message import Grant
from aiodistlock.protocol.readers import ReadersStore
from aiodistlock.protocol.wake import settle
from aiodistlock.waiting.attempt import Attempt, Contending
from aiodistlock.waiting.client_state import ClientState
from aiodistlock.waiting.contender import Contender
from aiodistlock.waiting.waiters import Waiter

READER, UPGRADEABLE = b"r", b"u"
"""What ends a token; see docs/wire.md."""


class LetteredAttempt(Attempt):
    """An acquisition whose token ends in a letter: the scripts know by it who asks."""

    __slots__ = ()

    letter: ClassVar[bytes] = READER

    def __init__(
        self, contender: Contending, client: ClientState[Attempt], keys: LockKeys, first: Waiter
    ) -> None:
        super().__init__(contender, client, keys, first)
        del client.attempts[self.token]
        self.token += self.letter
        client.attempts[self.token] = self

    @property
    def store(self) -> ReadersStore:
        """Where it asks."""
        return cast("ReadersStore", self.client.store)

    @property
    def queue_ms(self) -> int | None:
        """With which ttl of a grant it queues, ``None``: it only tries."""
        return self.options.grant_ttl_ms if self.queues else None


class ReadAttempt(LetteredAttempt):
    """One acquisition at Redis for those here who want to read."""

    __slots__ = ()

    def ask(self) -> None:
        """Send the request, or send it again."""
        self.moved = False
        self.cancel_timer()
        self.call = self.store.read(
            self.keys, self.token, self.options.ttl_ms, self.queue_ms, self.answered
        )


class UpgradeableAttempt(ReadAttempt):
    """One acquisition at Redis for one who wants to read, and may want to write then."""

    __slots__ = ()

    letter = UPGRADEABLE


class ReadContender(Contender):
    """Contends for one name on behalf of those tasks of this process that want to read."""

    __slots__ = ("_closed",)

    attempt_type: ClassVar[type[Attempt]] = ReadAttempt

    def __init__(self, client: ClientState[Attempt], keys: LockKeys) -> None:
        super().__init__(client, keys)
        self._closed: set[SharedLease] = set()
        """Those that nobody may join, and that somebody has still."""

    @property
    def _open(self) -> SharedLease | None:
        return cast("SharedLease | None", self.process_lease)

    def enter(self, waiter: Waiter) -> None:
        """Let a task read, or wait its turn for that."""
        waiter.entered_at = now = self.client.clock()
        lease = self._open
        already = self.client.reading.get((self.keys.key, waiter.task))
        mine = already[-1].shared if already else None
        if mine is not None and mine.alive and mine.possessor is self:
            self._join(mine, waiter)
        elif lease is None:
            first = self.attempt is None
            if first:
                self.seen_before = self.last_seen
            self.waiters.push(waiter)
            if first:
                self.ask(waiter)
        elif self.waiters.first() is None and self._may_be_joined(lease, now):
            self._join(lease, waiter)
        else:
            self.waiters.push(waiter)
            self._check(lease)

    def _may_be_joined(self, lease: SharedLease, now: float) -> bool:
        enough = lease.deadline - now >= lease.options.ttl / 2
        return lease.alive and enough and now < lease.span_ends_at

    def _check(self, lease: SharedLease) -> None:
        """Ask whether anybody waits; the answer says how many, and renews the lease besides."""
        if not lease.checking:
            lease.checking = True
            self.client.watchdog.renew(lease, then=partial(self._checked, lease))

    def _checked(self, lease: SharedLease, reply: RenewReply) -> None:
        lease.checking = False
        if lease is not self.process_lease:
            return
        if type(reply) is Renewed and reply.waiters == 0:
            lease.span_ends_at = reply.sent_at + self.client.options.handoff_span
            self._let_in(lease)
        else:
            self._close(lease)

    def _close(self, lease: SharedLease) -> None:
        self.process_lease = None
        if lease.shares:
            self._closed.add(lease)
        else:
            self._end(lease)
        self._ask_anew()

    def _ask_anew(self) -> None:
        first = self.waiters.first()
        if first is not None:
            self.ask(first)

    def granted(
        self, attempt: Attempt, reply: Granted | Grant, granted_at: float, until: float
    ) -> None:
        """Begin the lease that an attempt got, for all who wait here."""
        attempt.end()
        self.attempt = None
        fence, server_us = reply.fence, reply.server_us
        token = attempt.token
        lease = SharedLease(self, self.keys, token, fence, server_us, attempt.options, until)
        lease.span_ends_at = granted_at + self.client.options.handoff_span
        self.came_after = granted_at
        self.begin(lease)
        self._let_in(lease)

    def begin(self, lease: SharedLease) -> None:
        """Have a lease that is ours by now."""
        self.process_lease = lease
        self.client.watchdog.add(lease)

    def _let_in(self, lease: SharedLease) -> None:
        while (waiter := self.waiters.pop()) is not None:
            self._join(lease, waiter)
        if not lease.shares:
            self._end(lease)

    def _join(self, lease: SharedLease, waiter: Waiter) -> None:
        """Give a reader a share, with the version that all of them read."""
        waiter.lease = share = self.add_share(lease, waiter.options, waiter.task)
        task, owner = waiter.task, waiter.owner
        holder = waiter.make_holder(self.client, share, lease.fence, task, owner)
        share.hand_to(holder)
        first = len(lease.shares) == 1
        settle(waiter.future, holder)
        share.story = waiter.story
        if share.story is not None:
            share.story.acquired(lease.fence, handed_over=not first)

    def add_share(
        self, lease: SharedLease, options: LockOptions, task: asyncio.Task[Any] | None
    ) -> Share:
        """Give out a share of a lease, to whoever is to read by it."""
        share = Share(lease, options, task)
        lease.shares.add(share)
        self.client.reading.setdefault((self.keys.key, share.task), []).append(share)
        return share

    def release(self, lease: ProcessLease) -> Call[ReleaseReply] | None:
        """Go on after a reader has left; return the request if it was the last one."""
        share = cast("Share", lease)
        share.holder = None
        shared = share.shared
        self._drop(share)
        call = None
        if not shared.shares:
            if not shared.alive:
                call = self.release_at_redis(shared)  # lost, perhaps only to us
            elif shared is not self.process_lease or self.waiters.first() is None:
                call = self._end(shared)
            # Else those who wait for the answer of whether they may join have it.
        if share.alive:
            share.event(LeaseEvent.GIVEN_UP)
            if share.story is not None:
                share.story.released(call)
        return call

    def _drop(self, share: Share) -> None:
        share.shared.shares.discard(share)
        as_reader = (self.keys.key, share.task)
        shares = self.client.reading.get(as_reader, [])
        if share in shares:
            shares.remove(share)
            if not shares:
                del self.client.reading[as_reader]

    def _end(self, lease: SharedLease) -> Call[ReleaseReply]:
        """Give a lease up that nobody has any more."""
        self.let_go(lease)
        return self.release_at_redis(lease)

    def let_go(self, lease: ProcessLease) -> None:
        """Look after a lease no longer; at Redis it lasts until its ttl is over."""
        if lease is self.process_lease:
            self.process_lease = None
        self._closed.discard(cast("SharedLease", lease))
        self.client.watchdog.remove(lease)
        lease.event(LeaseEvent.GIVEN_UP)
        lease.drop_renewal()

    def surrender(self, share: Share) -> None:
        """Have a lease that has become the writer's be no reader's any more."""
        share.holder = None
        self._drop(share)
        self.let_go(share.shared)
        share.event(LeaseEvent.GIVEN_UP)
        if share.story is not None:
            share.story.released()

    def release_at_redis(self, lease: ProcessLease) -> Call[ReleaseReply]:
        """Send the request that ends what this process reads."""
        whole = lease.renewed_as
        return self.client.store.release(self.keys, whole.value, 0, whole.matters_until)

    def leave(self) -> Call[Any] | None:
        """Let a task go that was cancelled or ran out of time; return the clean-up it caused."""
        self.waiters.note_left()
        if self.waiters.first() is not None:
            return None
        cleanup: Call[Any] | None = None
        lease = self._open
        if lease is not None and not lease.shares:
            cleanup = self._end(lease)
        if self.attempt is not None:
            cleanup = self.abandon(self.attempt)
        return cleanup

    def close(self, problem: str) -> None:
        """End all waits, and what is read here."""
        for waiter in self.waiters:
            waiter.fail(LockError(self.keys.name, problem))
        leases = [*self._closed] if self._open is None else [self._open, *self._closed]
        for lease in leases:
            for share in list(lease.shares):
                share.lose(problem)
            self._end(lease)
        self.leave()

    def on_lost(self, lease: ProcessLease, reason: str) -> None:
        """Cancel those who read, and contend anew for those who wait."""
        shared = cast("SharedLease", lease)
        if lease is self.process_lease:
            self.process_lease = None
        self._closed.discard(shared)
        if not shared.shares:
            self.release_at_redis(lease)  # lost, perhaps only to us
        for share in list(shared.shares):
            share.event(LeaseEvent.EXPIRED)
            share.lose(reason)
        if self.process_lease is None and self.attempt is None:
            self._ask_anew()

    def on_renewal_due(self, lease: ProcessLease) -> None:
        """Look for no dead-lock: who reads is not one task, and whoever waits has come later."""

    def held(self, attempt: Attempt, reply: Held) -> None:
        """Take note of who holds the lock; all who only tried are answered."""
        if attempt.queues:
            self._refuse_tries()
        for waiter in () if attempt.queues else self.waiters:
            if not waiter.waits:
                waiter.refuse()
                self.waiters.note_left()
        if not attempt.over:
            super().held(attempt, reply)

    def queued(self, reply: Queued) -> None:
        """Take note of whom Redis has us wait for; all who only tried are answered."""
        self._refuse_tries()
        super().queued(reply)

    def _refuse_tries(self) -> None:
        for waiter in list(self.waiters):
            if not waiter.waits and not waiter.future.done():
                waiter.refuse()
                self.leave()  # it may be the last one: who waited has left before


class UpgradeableContender(ReadContender):
    """
    Contends for one lease, on behalf of one task that reads and may want to write then.

    Only one of the readers of a name may be such a one, so nothing is shared.
    """

    __slots__ = ()

    attempt_type: ClassVar[type[Attempt]] = UpgradeableAttempt
