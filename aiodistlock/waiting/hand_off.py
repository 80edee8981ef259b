"""What follows when a local holder releases: a hand-off, or a release at Redis.

:func:`~aiodistlock.waiting.cohort.next_step` decides: in memory to the next local waiter,
behind a renewal if little is left of the ttl; through Redis to another process, if a bound
is reached; or back to Redis, if nobody waits here.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar
from weakref import ref

from aiodistlock.core.fencing import covered, report
from aiodistlock.core.options import LockOptions
from aiodistlock.leases.process_lease import Holder, ProcessLease
from aiodistlock.leases.states import GIVEN_UP
from aiodistlock.protocol.answers import Failed, Kept, PassOnReply, ReleaseReply, RenewReply
from aiodistlock.protocol.call import Call
from aiodistlock.waiting.attempt import Attempt, Contending
from aiodistlock.waiting.cohort import HAND_OVER, Step, next_step
from aiodistlock.waiting.dropped_lease import dropped
from aiodistlock.waiting.grant import Grantee
from aiodistlock.waiting.waiters import Waiter


class Grantor(Grantee, Contending):
    """What a contender is to whom wants the lock next: it hands its lease on."""

    __slots__ = ()

    attempt_type: ClassVar[type[Attempt]] = Attempt

    @abstractmethod
    def ask(self, first: Waiter) -> None:
        """Contend anew."""

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
        waiters = self.waiters
        first = None if waiters.head is None else waiters.first()
        if first is None:
            if self.lingering is not None and lease.options.linger and self.lingering.stay(lease):
                if lease.story is not None:
                    lease.story.released(lingers=True)
                return None
            return self._give_up(lease)
        if lease.story is not None:
            lease.story.released()
            lease.story = None
        options, handoffs = first.options, lease.handoffs
        # Whether it is covered was seen to at its first hand-off, and stays so.
        may_go_on = handoffs or covered(lease.fence, lease.server_us)
        step = next_step(
            True,  # here and below: runs for every hand-off, and keywords cost
            handoffs,
            options.local_handoffs if may_go_on else 0,
            self.client.clock(),
            lease.span_ends_at,
            lease.deadline,
            options.ttl,
        )
        if step is HAND_OVER:
            lease.handoffs += 1
            self._hand_to_first(lease)
        elif step is Step.RENEW:
            self._renew(lease, options)
        else:
            self._pass_on(lease, first)
        return None

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

        self.client.watchdog.remove(lease)
        lease.ends_at = None  # the former holder's
        self.client.watchdog.renew(lease, options.ttl, renewed)

    def _pass_on(self, lease: ProcessLease, first: Waiter) -> None:
        self.attempt = attempt = self.attempt_type(self, self.client, self.keys, first)
        if self.lingering is not None:
            self.lingering.bar(attempt.token)  # what comes back comes from others, who may wait
        # Who queues without listening is passed over as dead, and has to ask anew.
        attempt.unheard = not self.client.connection.listen(self.keys)
        self.client.watchdog.remove(lease)
        lease.drop_renewal()
        attempt.call = self.client.store.pass_on(
            self.keys,
            lease.token,
            attempt.token,
            ttl_ms=attempt.options.ttl_ms,
            grant_ttl_ms=attempt.options.grant_ttl_ms,
            highest=report(lease.fence, lease.handoffs),
            on_reply=attempt.passed_on,
        )

    def passed_on(self, attempt: Attempt, reply: PassOnReply) -> None:
        """Begin the lease anew if nobody else wanted it; else it is over."""
        lease, self.process_lease = self.process_lease, None
        assert lease is not None, "passing on what we hold"
        late = False
        if type(reply) is Kept:
            until = reply.sent_at + attempt.options.relied_on
            late = not lease.alive or self.client.clock() >= until
            if not late:
                self.comes_from_another(local=True)
                self._keep(lease, attempt, reply, until)
                return
        lease.event(GIVEN_UP)
        if late or type(reply) is Failed:
            self.release_at_redis(lease)

    def _keep(self, lease: ProcessLease, attempt: Attempt, reply: Kept, until: float) -> None:
        attempt.end()
        self.attempt = None
        lease.fence = reply.fence
        lease.server_us = reply.server_us
        lease.options = attempt.options
        lease.ends_at = None  # the former holder's
        lease.confirm(until)
        self._begin(lease, reply.sent_at)

    def let_go(self, lease: ProcessLease) -> None:
        """Look after a lease no longer; at Redis it lasts until its ttl is over."""
        self.process_lease = lease.holder = None
        self.client.watchdog.remove(lease)
        lease.event(GIVEN_UP)
        lease.drop_renewal()

    def on_dropped(self, lease: ProcessLease, holder: ref[Holder]) -> None:
        """Release a lease whose holder nobody refers to any more."""
        dropped(self.client, lease, self._release_dropped, holder)

    def _release_dropped(self, lease: ProcessLease, holder: ref[Holder]) -> None:
        if lease.holder is holder:  # meanwhile it may have another
            self.client.forget_holder(lease)
            self.release(lease)
