"""A grant begins a lease, and the first local waiter gets it.

Rules
-----
1. Whether it came by an answer or by a message: the attempt that got it is over, and the
   lease is in the watchdog's care before anybody holds it.
2. The lease is the process's.  Its holder is the first in the FIFO, with a fencing token of
   its own; if nobody waits any more, it goes back.
3. What another process hands over lasts for a moment only: a renewal, the claim, brings it
   to its full ttl.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from aiodistlock.core.fencing import local_fence, report
from aiodistlock.core.keys import LockKeys
from aiodistlock.core.options import LockOptions
from aiodistlock.core.validity import deadline
from aiodistlock.events.story import Story
from aiodistlock.leases.process_lease import Possessor, ProcessLease
from aiodistlock.leases.states import GIVEN_UP
from aiodistlock.protocol.answers import Granted, ReleaseReply
from aiodistlock.protocol.call import Call
from aiodistlock.protocol.grant_message import Grant
from aiodistlock.protocol.wake import settle
from aiodistlock.waiting.attempt import Attempt
from aiodistlock.waiting.client_state import ClientState
from aiodistlock.waiting.lingering import Lingering
from aiodistlock.waiting.waiters import Waiters


class Grantee(Possessor):
    """What a contender is to whom grants the lock: it begins a lease, or gives it back."""

    __slots__ = (
        "attempt",
        "came_after",
        "client",
        "keys",
        "lingering",
        "process_lease",
        "waiters",
    )

    client: ClientState[Attempt]
    keys: LockKeys
    waiters: Waiters
    attempt: Attempt | None
    process_lease: ProcessLease | None
    came_after: float
    """When we had the lock, or another was seen to have it: who has it now came later."""
    lingering: Lingering | None
    """What is known of its lease as one that lingers; ``None``: no lock on the name does."""

    def granted(
        self, attempt: Attempt, reply: Granted | Grant, granted_at: float, until: float
    ) -> None:
        """Begin the lease that an attempt got, for the first local waiter."""
        attempt.end()
        self.attempt = None
        token = reply.token or attempt.token
        lease = ProcessLease(
            self, self.keys, token, reply.fence, reply.server_us, attempt.options, until
        )
        if self.lingering is not None:
            others_wait = type(reply) is Granted and reply.others_wait
            self.lingering.began(lease, granted_at, attempt.lingers, others_wait=others_wait)
        self._begin(lease, granted_at)

    def granted_by_message(
        self, attempt: Attempt, grant: Grant, granted_at: float, ttl: float
    ) -> None:
        """Begin the lease that another process handed over, and claim its full ttl."""
        self.comes_from_another(local=False)
        if self.lingering is not None:
            self.lingering.bar(attempt.token)  # under RESP2 nothing else may have told of it yet
        self.granted(attempt, grant, granted_at, deadline(granted_at, ttl))
        lease = self.process_lease
        if lease is not None and ttl < lease.options.ttl:
            # The claim: the body does not wait for it, and it is dropped if the
            # release leaves in the same turn.
            self.client.watchdog.renew(lease)

    @abstractmethod
    def leave(self) -> Call[Any] | None:
        """Let a task go whose future is done; return the clean-up that this takes."""

    def comes_from_another(self, *, local: bool) -> None:
        """Have it told that the lock is not taken, but handed over."""
        first = self.waiters.first()
        if first is not None and first.story is not None:
            first.story.comes_from_another(local=local)

    def _begin(self, lease: ProcessLease, granted_at: float) -> None:
        """Begin a lease, or begin it anew, with all its local hand-offs ahead."""
        client = self.client
        lease.handoffs = 0
        self.came_after = granted_at
        lease.span_ends_at = granted_at + client.options.handoff_span
        self.process_lease = lease
        client.watchdog.add(lease)
        self._hand_to_first(lease)

    def _hand_to_first(self, lease: ProcessLease) -> None:
        """Make the first local waiter the holder."""
        waiter = self.waiters.pop()
        if waiter is None:
            self._give_up(lease)
            return
        options = waiter.options
        if options is not lease.options or options.max_hold is not None:
            self.client.watchdog.remove(lease)
            lease.go_by(options, self.client.clock())
            self.client.watchdog.add(lease)
        fence = local_fence(lease.fence, lease.handoffs)
        waiter.lease = lease
        holder = waiter.make_holder(self.client, lease, fence, waiter.task, waiter.owner)
        lease.hand_to(holder)
        settle(waiter.future, holder)
        lease.story = waiter.story
        if lease.story is not None:
            lease.story.acquired(fence, handed_over=lease.handoffs > 0)

    def use_again(
        self, lease: ProcessLease, options: LockOptions, story: Story | None, now: float
    ) -> int:
        """
        Go on with a lease that lingered, for its next holder; return the fencing token.

        :param now: when it was seen that it may be used
        """
        lease.handoffs += 1
        if options is not lease.options or lease.ends_at is not None:
            self.client.watchdog.remove(lease)
            lease.go_by(options, now)
            self.client.watchdog.add(lease)
        fence = local_fence(lease.fence, lease.handoffs)
        if lease.story is not None:
            lease.story.lingered("hit")
        lease.story = story
        if story is not None:
            story.acquired(fence, lingered=True)
        return fence

    def end_lingering(self, lease: ProcessLease) -> None:
        """Release a lease that lingers for good."""
        assert self.lingering is not None, "one lingers"
        self.lingering.forget()
        self._give_up(lease)

    def lingers(self, lease: ProcessLease) -> bool:
        """Tell whether a lease lingers."""
        return self.lingering is not None and self.lingering.lease is lease

    def _give_up(self, lease: ProcessLease) -> Call[ReleaseReply]:
        self.process_lease = None
        self.client.watchdog.remove(lease)
        lease.event(GIVEN_UP)
        if lease.renewal is not None:
            lease.drop_renewal()
        call = self.release_at_redis(lease)
        if lease.story is not None:
            lease.story.released(call)
        return call

    def release_at_redis(self, lease: ProcessLease) -> Call[ReleaseReply]:
        """Send the request that gives the lock up."""
        highest = report(lease.fence, lease.handoffs) if lease.handoffs else 0
        return self.client.store.release(self.keys, lease.value, highest, lease.matters_until)
