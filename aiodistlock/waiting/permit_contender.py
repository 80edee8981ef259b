"""What one process does about one semaphore: its local waiters, its leases, its say at Redis.

Rules
-----
1. Per semaphore, limit and process one FIFO of local waiters, and at most one attempt at Redis
   (:class:`~aiodistlock.waiting.permit_attempt.PermitAttempt`) on behalf of all of them: there is
   one as long as somebody waits.
2. Each lease that it is granted goes to the first in the FIFO, if that wants as many permits; else
   back.  Nobody overtakes: a heavy one at the head has the lighter ones behind it wait.
3. A released lease goes to the first in the FIFO in memory, under the same condition, for as long
   and as often as the cohort's bounds let it (:mod:`~aiodistlock.waiting.cohort`).  Then it goes
   to Redis, whose queue decides: there each local waiter has a place as well.
4. A message only says that something was granted: the answer to the next request says what.

Besides one lock's, the states are few: there is an attempt, or none, and any number of leases.
"""

from __future__ import annotations

from asyncio import Task
from collections.abc import Container
from typing import Any, cast

from aiodistlock.core.fencing import covered, report
from aiodistlock.core.keys import LockKeys
from aiodistlock.errors import LockError
from aiodistlock.leases.permit_lease import PermitLease
from aiodistlock.leases.process_lease import ProcessLease
from aiodistlock.protocol.answers import Permits, ReleaseReply
from aiodistlock.protocol.call import Call
from aiodistlock.protocol.permits import PermitStore, Want
from aiodistlock.waiting.attempt import Attempt
from aiodistlock.waiting.client_state import ClientState
from aiodistlock.waiting.cohort import Step, next_step
from aiodistlock.waiting.contender import Contender
from aiodistlock.waiting.dead_lock import task_in_block
from aiodistlock.waiting.permit_attempt import PermitAttempt, permit_options
from aiodistlock.waiting.waiters import Waiter


class PermitContender(Contender):
    """
    Contends for permits of one name on behalf of the tasks of this process.

    :param client: what all contenders of a client share
    :param keys: the keys of the name
    """

    __slots__ = ("leases",)

    attempt: PermitAttempt | None

    def __init__(self, client: ClientState[Attempt], keys: LockKeys) -> None:
        super().__init__(client, keys)
        self.leases: dict[bytes, ProcessLease] = {}
        """Those that it has, by token."""

    def enter(self, waiter: Waiter) -> None:
        """Let a task wait its turn, or refuse it if it only tries and others wait."""
        waiter.entered_at = self.client.clock()
        attempt = self.attempt
        if attempt is None:
            self.seen_before = self.last_seen
            self.waiters.push(waiter)
            self.ask(waiter)
        elif attempt.call is None or not attempt.call.done:
            self.waiters.push(waiter)
        elif waiter.waits:
            self.waiters.push(waiter)
            if attempt.want_more():
                attempt.ask()
        else:
            waiter.refuse()

    def ask(self, first: Waiter) -> None:
        """Begin an attempt on behalf of all local waiters."""
        self.attempt = attempt = PermitAttempt(self, self.client, self.keys, first)
        attempt.ask()

    def leave(self) -> Call[Any] | None:
        """
        Let a task go that was cancelled or ran out of time; its future is done.

        Returns the clean-up that it caused, if it left anything at Redis.
        """
        self.waiters.note_left()
        attempt = self.attempt
        if attempt is None:
            return None
        if self.waiters.first() is None:
            return self.abandon(attempt)
        withdrawn = attempt.withdraw()
        return self._undo_wants(attempt, withdrawn) if withdrawn else None

    def abandon(self, attempt: Attempt) -> Call[Any] | None:
        """End an attempt that nobody wants any more, and undo at Redis what it wants still."""
        attempt.end()
        self.attempt = None
        asked = cast("PermitAttempt", attempt)
        wants = list(asked.wants.values())
        return self._undo_wants(asked, wants) if wants else None

    def _undo_wants(self, attempt: PermitAttempt, wants: list[Want]) -> Call[Any]:
        """Take back what was wanted."""
        options, store = attempt.options, cast("PermitStore", self.client.store)
        return self._undo(
            lambda: store.abandon_permits(self.keys, wants, attempt.limit, options.grant_ttl_ms),
            options,
        )

    def answered(self, attempt: PermitAttempt, reply: Permits, until: float) -> None:
        """Give what was granted to the first local waiters, and go on for the rest."""
        tries, attempt.tries_asked = attempt.tries_asked, []
        if reply.waits is not None:
            self.last_seen = reply.waits
        for permit in reply.leases:
            if attempt.settle(permit.token) is not None:  # else it was withdrawn, and goes
                lease = PermitLease(
                    self, self.keys, permit, reply.server_us, attempt.options, until
                )
                self._begin(lease, reply.sent_at)
        for waiter in tries:
            if not waiter.future.done():
                waiter.refuse()
                self.waiters.note_left()
        for want in [each for each in attempt.wants.values() if not each.waits]:
            attempt.settle(want.token)
        if self.waiters.first() is None:
            self.abandon(attempt)
        else:
            attempt.go_on(reply.waits)

    def _begin(self, lease: ProcessLease, granted_at: float) -> None:
        """Begin a lease, with all its local hand-offs ahead."""
        self.came_after = granted_at
        lease.span_ends_at = granted_at + self.client.options.handoff_span
        self.leases[lease.token] = lease
        self.client.watchdog.add(lease)
        first = self.waiters.first()
        if first is not None and self._fits(lease, first):
            self._hand_to_first(lease)
        else:
            self._give_up(lease)

    @staticmethod
    def _fits(lease: ProcessLease, waiter: Waiter) -> bool:
        return len(cast("PermitLease", lease).slots) == permit_options(waiter).permits

    def release(self, lease: ProcessLease) -> Call[ReleaseReply] | None:
        """
        Go on after the local holder released its lease.

        Returns the request that gives the permits up, ``None`` if they stay here.
        """
        lease.holder = None
        if self.leases.get(lease.token) is not lease:
            # Lost, perhaps only to us: should they still be ours, they go now.
            return self.release_at_redis(lease)
        first = self.waiters.first()
        if first is None or not self._fits(lease, first) or not self._stays(lease, first):
            return self._give_up(lease)
        if lease.story is not None:
            lease.story.released()
            lease.story = None
        lease.handoffs += 1
        self._hand_to_first(lease)
        attempt = self.attempt
        if attempt is not None and self.waiters.first() is None:
            self.abandon(attempt)
        return None

    def _stays(self, lease: ProcessLease, first: Waiter) -> bool:
        """Tell whether the next local waiter may have the lease, within the cohort's bounds."""
        options = first.options
        step = next_step(
            waiting=True,
            handoffs=lease.handoffs,
            local_handoffs=options.local_handoffs if covered(lease.fence, lease.server_us) else 0,
            now=self.client.clock(),
            span_ends_at=lease.span_ends_at,
            deadline=lease.deadline,
            ttl=options.ttl,
        )
        return step is Step.HAND_OVER

    def _give_up(self, lease: ProcessLease) -> Call[ReleaseReply]:
        del self.leases[lease.token]
        return super()._give_up(lease)

    def release_at_redis(self, lease: ProcessLease) -> Call[ReleaseReply]:
        """Send the request that gives the permits up."""
        highest = report(lease.fence, lease.handoffs)
        store = cast("PermitStore", self.client.store)
        return store.release_permits(self.keys, lease.value, highest, lease.matters_until)

    def on_lost(self, lease: ProcessLease, reason: str) -> None:
        """Cancel the local holder; those who wait have their attempt."""
        if self.leases.pop(lease.token, None) is not None:
            lease.lose(reason)

    def task_of(self, lease: ProcessLease) -> Task[Any] | None:
        """Return the task in whose block permits are: others may release what is in none."""
        return task_in_block(lease)

    def holding_tasks(self) -> list[Task[Any]]:
        """Return the tasks in whose blocks permits are."""
        tasks = dict.fromkeys(map(task_in_block, self.leases.values()))
        return [each for each in tasks if each is not None]

    def is_stuck(self, waiter: Waiter, tasks: Container[Task[Any]]) -> bool:
        """Tell whether too few permits are left without those that such tasks hold."""
        options = permit_options(waiter)
        held = sum(
            len(cast("PermitLease", lease).slots)
            for lease in self.leases.values()
            if (task := task_in_block(lease)) is not None and task in tasks
        )
        return held + options.permits > options.limit

    def close(self, problem: str) -> None:
        """End all waits and the leases of this process, and send the clean-up."""
        for waiter in self.waiters:
            waiter.fail(LockError(self.keys.name, problem))
        for lease in list(self.leases.values()):
            lease.lose(problem)
            self._give_up(lease)
        self.leave()
