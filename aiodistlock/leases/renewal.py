"""One renewal of a lease, by the watchdog or by its user (``extend``).

Rules
-----
1. Whoever asks for it, the lease is looked at again when a sixth of what is left has passed
   without an answer.
2. The deadline that it brings counts from before the request was sent.  One that shortens
   the lease is believed as soon as it is sent, one that prolongs it when it is answered.
3. Only the answer to the latest prolongs a lease: one that follows another may have
   shortened it again.
4. A refusal ends the lease.  An error decides nothing.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

from aiodistlock.core.clock import Clock
from aiodistlock.core.options import to_ms
from aiodistlock.core.validity import TRY_SHARE, relied_on
from aiodistlock.leases.process_lease import ProcessLease
from aiodistlock.leases.timer_wheel import GRAIN, TOGETHER
from aiodistlock.protocol.answers import NotOurs, Renewed, RenewReply
from aiodistlock.protocol.call import Call
from aiodistlock.protocol.store import Store


class Renewer(ABC):
    """What the watchdog is to a lease that is to be renewed."""

    _store: Store
    _clock: Clock
    add: Callable[[ProcessLease], None]
    """Look after a lease from now on, first at its ``due_at``."""
    remove: Callable[[ProcessLease], None]
    """Look after a lease no longer."""

    @abstractmethod
    def refused(self, lease: ProcessLease, reason: str) -> None:
        """Take in that a lease is not ours any more."""

    def renew(
        self,
        lease: ProcessLease,
        ttl: float | None = None,
        then: Callable[[RenewReply], object] | None = None,
        until: float = math.inf,
    ) -> Call[RenewReply]:
        """
        Send a renewal now; its answer moves the lease in the wheel, or ends it.

        :param ttl: seconds; default: the lock's ttl, or what is left if that is more
        :param then: gets the answer after the lease has taken it in
        :param until: local instant after which no answer is waited for
        """
        self.remove(lease)
        return self._send(lease, self._clock(), ttl, then, until)

    def _send(
        self,
        lease: ProcessLease,
        now: float,
        ttl: float | None = None,
        then: Callable[[RenewReply], object] | None = None,
        until: float = math.inf,
    ) -> Call[RenewReply]:
        """Send a renewal of a lease that is not in the wheel, and put it in."""
        options = lease.options
        ttl_ms, lasts = options.ttl_ms, options.relied_on
        if ttl is None and lease.deadline - now > lasts:
            ttl = max(lease.deadline - now, options.ttl)
        if ttl is not None:
            ttl_ms, lasts = to_ms(ttl), relied_on(ttl)
            lease.expect(now + lasts)

        if lease.story is not None:
            lease.story.renewal_due(min(lease.due_at, now))
        self._try_again_later(lease, now)
        lease.renewals += 1
        answer = _Answer(self, lease, lasts, then)
        call = lease.ask_to_renew(self._store, ttl_ms, answer, until)
        if call.reply is None:
            lease.renewal = call
        return call

    def _try_again_later(self, lease: ProcessLease, now: float) -> None:
        left = lease.deadline - now
        early = GRAIN if left < 1.0 else TOGETHER * GRAIN  # as the wheel may be
        lease.look_at(now + max(2 * early, min(left, lease.options.ttl) * TRY_SHARE))
        self.add(lease)


class _Answer:
    """
    What becomes of the answer to one renewal.

    A partial would do, and take as long, but is three objects to the garbage collector, which
    runs whenever 700 more are there: several times while thousands of renewals are under way.
    """

    __slots__ = ("_lasts", "_lease", "_number", "_renewer", "_then")

    def __init__(
        self,
        renewer: Renewer,
        lease: ProcessLease,
        lasts: float,
        then: Callable[[RenewReply], object] | None,
    ) -> None:
        self._renewer = renewer
        self._lease = lease
        self._number = lease.renewals
        self._lasts = lasts
        self._then = then

    def __call__(self, reply: RenewReply) -> None:
        """Have the lease take the answer in."""
        lease, renewer = self._lease, self._renewer
        # Only the latest: one that follows it may have shortened the lease again.
        latest = lease.renewals == self._number
        if latest:
            lease.renewal = None
        if not lease.alive:
            pass
        elif type(reply) is NotOurs:
            renewer.refused(lease, reply.reason)
        elif type(reply) is Renewed and latest:
            renewer.remove(lease)
            lease.confirm(reply.sent_at + self._lasts)
            renewer.add(lease)
            if lease.story is not None:
                lease.story.renewed(reply.waiters)
        elif type(reply) is Renewed and lease.renewal is None and self._number > lease.dropped:
            # Answered behind the latest, so it may have run behind it, too.
            renewer.remove(lease)
            lease.expect(reply.sent_at + self._lasts)
            lease.plan()
            renewer.add(lease)
        # Failed: an error decides nothing; the next try follows, until the deadline.
        if self._then is not None:
            self._then(reply)
