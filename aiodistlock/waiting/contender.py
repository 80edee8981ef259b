"""What one process does about one name: its local waiters, and its say at Redis.

Rules
-----
1. Per name and process one FIFO of local waiters, and at most one acquisition at
   Redis on behalf of all of them (an :class:`Attempt`), never of a single task: a
   task that is cancelled just leaves.
2. Whoever leaves last abandons the attempt, behind the request that it undoes.
3. A granted lease goes to the first in the FIFO (:mod:`~aiodistlock.waiting.grant`), and
   from there to the next, or to another process (:mod:`~aiodistlock.waiting.hand_off`).
4. A waiter in the queue at Redis is woken by a grant.  Messages may be lost, so it
   asks again (the same request: it keeps its place) when the holder's lease must have
   run out, when the inbox is heard again, and else at growing, jittered pauses; the
   more rarely, the farther back it stands (:mod:`~aiodistlock.waiting.pauses`).
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
None           set            None       renewing before a hand-off, or lingering
set            set            None       passing on
=============  =============  =========  =====================================

What enters, asks, leaves or loses the lease stands here; a contender is a ``Grantee`` and a
``Grantor`` as well, and the transitions of a lease that begins or is handed on stand there.
"""

from __future__ import annotations

import itertools
import logging
from asyncio import Task
from collections.abc import Callable, Container, Sequence
from math import inf
from typing import Any

from aiodistlock.core.keys import LockKeys
from aiodistlock.core.options import LockOptions
from aiodistlock.errors import AcquireTimeout, LockError, StoreUnavailable
from aiodistlock.leases.process_lease import ProcessLease
from aiodistlock.protocol.answers import Failed, Held, Queued
from aiodistlock.protocol.call import Call
from aiodistlock.waiting.attempt import Attempt
from aiodistlock.waiting.client_state import ClientState
from aiodistlock.waiting.dead_lock import dead_lock_of, holding_task
from aiodistlock.waiting.hand_off import Grantor
from aiodistlock.waiting.pauses import pause_refused
from aiodistlock.waiting.tokens import hands_over
from aiodistlock.waiting.waiters import Waiter, Waiters

logger = logging.getLogger("aiodistlock")


class Contender(Grantor):
    """
    Contends for one name on behalf of the tasks of this process.

    :param client: what all contenders of a client share
    :param keys: the keys of the name
    """

    __slots__ = ("__weakref__", "last_seen", "seen_before")

    def __init__(self, client: ClientState[Attempt], keys: LockKeys) -> None:
        self.client = client
        self.keys = keys
        self.waiters = Waiters()
        self.attempt = None
        self.process_lease = None
        self.lingering = None
        self.came_after = -inf
        self.last_seen: Queued | Held | None = None
        """Who held the lock when Redis was asked last, for the error message."""
        self.seen_before: Queued | Held | None = None
        """That, from before these tasks began to wait: of now it says nothing."""

    def enter(self, waiter: Waiter) -> None:
        """Let a task wait its turn, or refuse it if it only tries and would have to."""
        waiter.entered_at = self.client.clock()
        if self.attempt is None and self.process_lease is None:
            self.seen_before = self.last_seen
            self.waiters.push(waiter)
            self.ask(waiter)
        elif self.lingering is not None and self.lingering.lease is not None:
            self.end_lingering(self.lingering.lease)
            self.enter(waiter)
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
        if lease is not None and lease.holder is None and not self.lingers(lease):
            # Renewing or passing on, and nobody wants it any more.
            cleanup = self._give_up(lease)
        if attempt is not None:
            cleanup = self.abandon(attempt)
        return cleanup

    def expire(self, waiter: Waiter, timeout: float) -> None:
        """End the wait of a task that ran out of time."""
        if waiter.future.done():
            return
        waiter.fail(self.timed_out(timeout, waiter.task))
        self.leave()

    def close(self, problem: str) -> None:
        """End all waits and the lease of this process, and send the clean-up."""
        for waiter in self.waiters:
            waiter.fail(LockError(self.keys.name, problem))
        lease = self.process_lease
        if lease is not None and lease.holder is not None:
            lease.lose(problem)
        if lease is not None and self.lingers(lease):
            self.end_lingering(lease)
        self.leave()

    def ask(self, first: Waiter) -> None:
        """Begin an attempt on behalf of all local waiters."""
        self.attempt = attempt = self.attempt_type(self, self.client, self.keys, first)
        attempt.ask()

    def abandon(self, attempt: Attempt) -> Call[Any] | None:
        """
        End an attempt that nobody wants any more, and undo it at Redis.

        Returns the clean-up that it caused, if it may have left anything there.
        """
        attempt.end()
        self.attempt = None
        return self._undo(lambda: self._ask_to_undo(attempt), attempt.options)

    def _ask_to_undo(self, attempt: Attempt) -> Call[Any]:
        """Send the request that undoes an attempt."""
        grant_ttl_ms = attempt.options.grant_ttl_ms if attempt.queues else None
        return self.client.store.abandon(self.keys, attempt.token, grant_ttl_ms)

    def _undo(self, send: Callable[[], Call[Any]], options: LockOptions) -> Call[Any]:
        """
        Undo an attempt, again and again while one Redis refuses for a passing reason.

        :param send: sends the request that does it
        :return: the first one
        """
        client, tries = self.client, itertools.count()
        until = client.clock() + options.ttl

        def undone(reply: Any) -> None:
            if type(reply) is not Failed or not reply.transient or client.on_quorum:
                return
            pause = pause_refused(options.backoff, next(tries), client.rng)
            if not client.closed and client.clock() + pause < until:
                client.timers.call_later(pause, again)

        def again() -> None:
            if not client.closed:
                send().tell(undone)

        call = send()
        call.tell(undone)
        return call

    def queued(self, reply: Queued) -> None:
        """Take note of whom Redis has us wait for, unless that is a lost release of ours."""
        self._note_holder(reply.holder)
        seen, self.last_seen = self.last_seen, reply
        if type(seen) is Queued and seen.holder != reply.holder:
            self.came_after = max(self.came_after, seen.sent_at)
        client, holder = self.client, reply.holder.encode()
        ours = client.all_watched and holder.startswith(client.token_prefix)
        if ours and not client.holds(self.keys.key, holder):
            # A failover lost our release: nobody else frees the lock before its ttl is over.
            client.store.abandon(self.keys, holder, None)

    def held(self, attempt: Attempt, reply: Held) -> None:
        """
        Take note of who holds the lock.

        A task that only tried is answered; those that came behind it wait.
        """
        if reply.holder:  # else it stands back, and asked nobody
            self._note_holder(reply.holder)
            self.last_seen = reply
        if attempt.queues:
            return
        attempt.end()
        self.attempt = None
        first = self.waiters.first()
        if first is not None and not first.waits:
            first.refuse()
            first = self.waiters.first()
        if first is not None:
            self.ask(first)

    def _note_holder(self, holder: str) -> None:
        """Have the name not linger for a while if its holder is one who could not have asked."""
        if self.lingering is not None and not hands_over(holder):
            self.client.lingering.keep_quiet(self.keys.key)

    def recalled(self, token: bytes) -> None:
        """Give up a lease that lingers, or have it not linger later: somebody waits for it."""
        lease, attempt = self.process_lease, self.attempt
        if self.lingering is None:
            return
        if lease is not None and lease.token == token:
            if self.lingering.recalled(token):
                self._give_up(lease)
        elif attempt is not None and attempt.token == token:
            self.lingering.bar(token)

    def failed(self, attempt: Attempt, failed: Failed) -> None:
        """Fail those whose time with an unavailable Redis is over; go on for the rest."""
        client = self.client
        latest = client.clock() - client.options.unavailable_after
        gave_up = 0
        for waiter in self.waiters:
            since = max(waiter.entered_at, failed.since)
            if not failed.transient or since <= latest:
                waiter.fail(StoreUnavailable(self.keys.name, failed.causes))
                gave_up += 1
        if gave_up:
            problem = StoreUnavailable(self.keys.name, failed.causes)
            logger.warning("%s; tasks that wait no longer: %d", problem, gave_up)
        if self.waiters.first() is None:
            self.abandon(attempt)

    def on_lost(self, lease: ProcessLease, reason: str) -> None:
        """Cancel the local holder, and contend anew for those who wait."""
        if lease is not self.process_lease or self.attempt is not None:
            return  # it is being passed on, say: the answer to that tells the rest
        self.process_lease = None
        if lease.holder is not None:
            lease.lose(reason)
        else:
            if self.lingering is not None and self.lingering.lease is lease:
                self.lingering.forget()
            # Lost while it was renewed for the next holder, or lingered; perhaps only to us.
            self.release_at_redis(lease)
        first = self.waiters.first()
        if first is not None:
            self.ask(first)

    def on_renewal_due(self, lease: ProcessLease) -> None:
        """End the wait of its holder for another lock, if it is in a dead-lock without an end."""
        if self.waiters.head is not None:
            # Not in the watchdog's own round: coroutines of all kinds are looked at.
            self.client.loop.call_soon(self._end_dead_lock, lease)

    def _end_dead_lock(self, lease: ProcessLease) -> None:
        found = dead_lock_of(self.task_of(lease))
        if found is not None and found.endless:
            wait = found.waits[0]
            wait.waiter.fail(LockError(wait.contender.keys.name, found.told()))
            wait.contender.leave()

    def task_of(self, lease: ProcessLease) -> Task[Any] | None:
        """Return the task that holds a lease, as far as is known."""
        return holding_task(lease)

    def holding_tasks(self) -> list[Task[Any]]:
        """Return the tasks here that hold the name, or permits of it."""
        lease = self.client.holders.get(self.keys.key)
        task = None if lease is None else holding_task(lease)
        return [] if task is None else [task]

    def is_stuck(self, _waiter: Waiter, tasks: Container[Task[Any]]) -> bool:
        """Tell whether a task waits for ever where those tasks never go on."""
        return any(each in tasks for each in self.holding_tasks())

    def timed_out(self, timeout: float, task: Task[Any] | None = None) -> AcquireTimeout:
        """
        Build the error for a task that waited in vain: who held the lock, what kept Redis.

        :param task: the one that waits still, if one does: it may be in a dead-lock
        """
        name, client = self.keys.name, self.client
        found = dead_lock_of(task)
        chain = None if found is None else found.told()
        local = client.holders.get(self.keys.key)
        if local is not None:
            validity = local.validity_at(client.clock())
            return AcquireTimeout(name, timeout, local.token.decode(), validity, dead_lock=chain)
        causes = self._trouble(timeout)
        seen = self.last_seen
        # Who did not wait was answered just now, though others may have come meanwhile.
        if seen is None or (timeout > 0 and seen is self.seen_before):
            return AcquireTimeout(name, timeout, causes=causes)
        return AcquireTimeout(name, timeout, seen.holder, seen.remaining, causes, chain)

    def _trouble(self, waited: float) -> Sequence[Exception]:
        """Return what keeps Redis from answering, one exception per node; empty if it answers."""
        attempt, lease = self.attempt, self.process_lease
        if attempt is not None:
            call, failure = attempt.call, attempt.failure
        else:
            call, failure = None if lease is None else lease.renewal, None
        unanswered = None if call is None or call.done else call
        if unanswered is not None and (causes := self.client.connection.excuses(unanswered)):
            return causes
        if failure is not None:
            return failure.causes
        return () if unanswered is None else (TimeoutError(f"no answer for {waited:.3g} s"),)
