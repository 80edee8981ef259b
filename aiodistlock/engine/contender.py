"""What one process does about one name: its local waiters, and its say at Redis.

Rules
-----
1. Per name and process one FIFO of local waiters, and at most one acquisition at
   Redis on behalf of all of them (an :class:`Attempt`), never of a single task: a
   task that is cancelled just leaves.
2. Whoever leaves last abandons the attempt, behind the request that it undoes.
3. A granted lease goes to the first in the FIFO.  When its holder releases it,
   :func:`~aiodistlock.core.cohort.next_step` decides: in memory to the next, through
   Redis to another process, or back to Redis.
4. A waiter in the queue at Redis is woken by a grant.  Messages may be lost, so it
   asks again (the same request: it keeps its place) when the holder's lease must have
   run out, when the inbox is heard again, and else at growing, jittered pauses.
5. While Redis is unreachable or refuses for a passing reason, the attempt goes on,
   until ``unavailable_after``; each waiter's own ``timeout`` runs meanwhile.

Nothing here awaits: events come in (a task enters or leaves, an answer, a grant, a
timer), state changes, requests go out.  The states are what is not ``None``:

=============  =============  =========  =====================================
attempt        process_lease  holder     meaning
=============  =============  =========  =====================================
None           None           None       idle
set            None           None       asking, or waiting in the queue
None           set            set        a local task holds the lock
None           set            None       renewing before a hand-off
set            set            None       passing on
=============  =============  =========  =====================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiodistlock.core.cohort import Step, next_step
from aiodistlock.core.fencing import local_fence, report
from aiodistlock.core.keys import LockKeys
from aiodistlock.core.lease_state import LeaseEvent
from aiodistlock.core.options import LockOptions
from aiodistlock.engine.attempt import Attempt
from aiodistlock.engine.fifo import Fifo
from aiodistlock.engine.inbox import Grant
from aiodistlock.engine.process_lease import ProcessLease
from aiodistlock.engine.waiter import Waiter
from aiodistlock.errors import AcquireTimeout, LockError
from aiodistlock.stores.answers import Failed, Granted, Held, Kept, Queued, ReleaseReply, RenewReply
from aiodistlock.stores.base import Call
from aiodistlock.stores.wake import settle

if TYPE_CHECKING:
    from aiodistlock.engine.acquire import Engine


class Contender:
    """
    Contends for one name on behalf of the tasks of this process.

    :param engine: what all contenders of a client share
    :param keys: the keys of the name
    """

    __slots__ = (
        "__weakref__",
        "attempt",
        "engine",
        "keys",
        "last_seen",
        "process_lease",
        "seen_before",
        "waiters",
    )

    def __init__(self, engine: Engine, keys: LockKeys) -> None:
        self.engine = engine
        self.keys = keys
        self.waiters = Fifo()
        self.attempt: Attempt | None = None
        self.process_lease: ProcessLease | None = None
        self.last_seen: Queued | Held | None = None
        """Who held the lock when Redis was asked last, for the error message."""
        self.seen_before: Queued | Held | None = None
        """That, from before these tasks began to wait: of now it says nothing."""

    def enter(self, waiter: Waiter) -> None:
        """Let a task wait its turn, or refuse it if it only tries and would have to."""
        waiter.entered_at = self.engine.clock()
        if self.attempt is None and self.process_lease is None:
            self.seen_before = self.last_seen
            self.waiters.push(waiter)
            self.ask(waiter)
        elif waiter.waits:
            self.waiters.push(waiter)
        else:
            waiter.refuse()

    def leave(self) -> Call[Any] | None:
        """
        Let a task go that was cancelled or ran out of time; its future is done.

        Returns the clean-up that it caused, if it was the last one.
        """
        self.waiters.note_left()
        if self.waiters.first() is not None:
            return None
        cleanup: Call[Any] | None = None
        attempt, lease = self.attempt, self.process_lease
        if lease is not None and lease.holder is None:
            # Renewing or passing on, and nobody wants it any more.
            cleanup = self._give_up(lease)
        if attempt is not None:
            cleanup = self.abandon(attempt)
        return cleanup

    def expire(self, waiter: Waiter, timeout: float) -> None:
        """End the wait of a task that ran out of time."""
        if waiter.future.done():
            return
        waiter.fail(self.timed_out(timeout))
        self.leave()

    def timed_out(self, timeout: float) -> AcquireTimeout:
        """Build the error for a task that waited in vain, with who held the lock."""
        local = self.engine.holders.get(self.keys.key)
        if local is not None:
            return AcquireTimeout(self.keys.name, timeout, local.token, local.validity)
        seen = self.last_seen
        # Who did not wait was answered just now, though others may have come meanwhile.
        if seen is None or (timeout > 0 and seen is self.seen_before):
            return AcquireTimeout(self.keys.name, timeout)
        return AcquireTimeout(self.keys.name, timeout, seen.holder, seen.remaining)

    def close(self, problem: str) -> None:
        """End all waits and the lease of this process, and send the clean-up."""
        for waiter in self.waiters:
            waiter.fail(LockError(self.keys.name, problem))
        lease = self.process_lease
        if lease is not None and lease.holder is not None:
            holder, lease.holder = lease.holder, None
            holder.lose(problem)
        self.leave()

    def ask(self, first: Waiter) -> None:
        """Begin an attempt on behalf of all local waiters."""
        self.attempt = attempt = Attempt(self, first)
        attempt.ask()

    def abandon(self, attempt: Attempt) -> Call[Any]:
        """End an attempt that nobody wants any more, and undo it at Redis."""
        attempt.end()
        self.attempt = None
        return self.engine.store.abandon(
            self.keys, attempt.token, attempt.options.grant_ttl_ms if attempt.queues else None
        )

    def granted(
        self, attempt: Attempt, reply: Granted | Grant, granted_at: float, until: float
    ) -> None:
        """Begin the lease that an attempt got, for the first local waiter."""
        attempt.end()
        self.attempt = None
        token = reply.token or attempt.token
        lease = ProcessLease(self, token, reply.fence, reply.server_us, attempt.options, until)
        self._begin(lease, granted_at)

    def _begin(self, lease: ProcessLease, granted_at: float) -> None:
        """Begin a lease, or begin it anew, with all its local hand-offs ahead."""
        engine = self.engine
        lease.handoffs = 0
        lease.span_ends_at = granted_at + engine.options.handoff_span
        self.process_lease = lease
        engine.watchdog.add(lease)
        self._hand_to_first(lease)

    def _hand_to_first(self, lease: ProcessLease) -> None:
        """Make the first local waiter the holder."""
        waiter = self.waiters.pop()
        if waiter is None:
            self._give_up(lease)
            return
        options = waiter.options
        if options is not lease.options or options.max_hold is not None:
            self.engine.watchdog.remove(lease)
            lease.go_by(options, self.engine.clock())
            self.engine.watchdog.add(lease)
        fence = local_fence(lease.fence, lease.handoffs)
        lease.holder = holder = waiter.make_holder(lease, fence, waiter)
        settle(waiter.future, holder)
        lease.story = waiter.story
        if lease.story is not None:
            lease.story.acquired(fence, handed_over=lease.handoffs > 0)

    def release(self, lease: ProcessLease) -> Call[ReleaseReply] | None:
        """
        Go on after the local holder released its lease.

        Returns the request that gives the lock up, ``None`` if it stays here or is
        passed on.
        """
        lease.holder = None
        if lease is not self.process_lease:
            # Lost, perhaps only to us: should the key still be ours, it goes now.
            return self.release_at_redis(lease)
        first = self.waiters.first()
        if first is None:
            return self._give_up(lease)
        if lease.story is not None:
            lease.story.released()
            lease.story = None
        step = next_step(
            waiting=True,
            handoffs=lease.handoffs,
            local_handoffs=first.options.local_handoffs,
            now=self.engine.clock(),
            span_ends_at=lease.span_ends_at,
            deadline=lease.deadline,
            ttl=first.options.ttl,
        )
        if step is Step.HAND_OVER:
            lease.handoffs += 1
            self._hand_to_first(lease)
        elif step is Step.RENEW:
            self._renew(lease, first.options)
        else:
            self._pass_on(lease, first)
        return None

    def _give_up(self, lease: ProcessLease) -> Call[ReleaseReply]:
        self.process_lease = None
        self.engine.watchdog.remove(lease)
        lease.event(LeaseEvent.GIVEN_UP)
        if lease.renewal is not None:
            lease.drop_renewal()
        call = self.release_at_redis(lease)
        if lease.story is not None:
            lease.story.released(call)
        return call

    def release_at_redis(self, lease: ProcessLease) -> Call[ReleaseReply]:
        """Send the request that gives the lock up."""
        highest = report(lease.fence, lease.handoffs, lease.server_us)
        return self.engine.store.release(self.keys, lease.token, highest, lease.matters_until)

    def _renew(self, lease: ProcessLease, options: LockOptions) -> None:
        """Renew to the ttl that the next holder uses, then hand over."""

        def renewed(reply: RenewReply) -> None:
            if lease is not self.process_lease or lease.holder is not None:
                return
            if type(reply) is Failed:
                self._give_up(lease)
                first = self.waiters.first()
                if first is not None:
                    self.ask(first)
                return
            lease.handoffs += 1
            self._hand_to_first(lease)

        self.engine.watchdog.remove(lease)
        lease.ends_at = None  # the former holder's
        self.engine.watchdog.renew(lease, options.ttl, renewed)

    def _pass_on(self, lease: ProcessLease, first: Waiter) -> None:
        self.attempt = attempt = Attempt(self, first)
        self.engine.watchdog.remove(lease)
        lease.drop_renewal()
        attempt.call = self.engine.store.pass_on(
            self.keys,
            lease.token,
            attempt.token,
            ttl_ms=attempt.options.ttl_ms,
            grant_ttl_ms=attempt.options.grant_ttl_ms,
            highest=report(lease.fence, lease.handoffs, lease.server_us),
            on_reply=attempt.passed_on,
        )

    def kept(self, lease: ProcessLease, attempt: Attempt, reply: Kept) -> None:
        """Begin the lease anew: nobody else wanted it."""
        attempt.end()
        self.attempt = None
        lease.fence = reply.fence
        lease.server_us = reply.server_us
        lease.options = attempt.options
        lease.ends_at = None  # the former holder's
        lease.confirm(reply.sent_at + attempt.options.relied_on)
        self._begin(lease, reply.sent_at)

    def on_lost(self, lease: ProcessLease, reason: str) -> None:
        """Cancel the local holder, and contend anew for those who wait."""
        if lease is not self.process_lease or self.attempt is not None:
            return  # it is being passed on, say: the answer to that tells the rest
        self.process_lease = None
        if lease.holder is not None:
            lease.holder.lose(reason)
        else:
            # Lost while it was renewed for the next holder, perhaps only to us.
            self.release_at_redis(lease)
        first = self.waiters.first()
        if first is not None:
            self.ask(first)
