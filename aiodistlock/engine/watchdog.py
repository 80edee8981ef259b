"""The task that renews leases and reports loss.

Rules
-----
1. A lease is renewed when a third of its ttl is used up; all that are due leave in
   one write.
2. A renewal that is refused ends the lease at once.
3. One that is unanswered for a sixth of what is left makes it uncertain, is tried again,
   and the connection is suspected.  The connection sends again what is in flight, so
   a second request follows only where the first was answered with an error.
4. At its deadline the lease is lost, whatever is in flight.

When each lease is due stands in the :class:`~aiodistlock.engine.wheel.Wheel`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from functools import partial

from aiodistlock.core.clock import Clock, Timer, Timers
from aiodistlock.core.lease_state import TRY_SHARE, LeaseEvent, relied_on
from aiodistlock.core.options import to_ms
from aiodistlock.engine.process_lease import ProcessLease
from aiodistlock.engine.wheel import GRAIN, TOGETHER, Wheel
from aiodistlock.stores.answers import Failed, Inspected, InspectReply, NotOurs, Renewed, RenewReply
from aiodistlock.stores.base import Call, Store

NAP = 0.25
"""Longest sleep of the task, seconds.

The event loop's clock stands still while the machine is suspended; the leases' does
not.  So after a resume the task must not sleep on for what was left before.
"""

CHECK_AGAIN = 1.0
"""Seconds until a check is repeated that a server refused for a passing reason."""


class Watchdog:
    """
    Looks after all leases of one ``LockClient``.

    :param timers: by which the task sleeps; they run as ``clock`` does
    :param on_lost: told which lease was lost, and why
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        timers: Timers,
        on_lost: Callable[[ProcessLease, str], object],
    ) -> None:
        self._store = store
        self._clock = clock
        self._timers = timers
        self._on_lost = on_lost
        self._wheel = Wheel(self._earlier)
        # The wheel's own, without a call between: they run for every lease.
        self.add = self._wheel.add
        """Look after a lease from now on, first at its ``due_at``."""
        self.remove = self._wheel.remove
        """Look after a lease no longer."""
        self._task: asyncio.Task[None] | None = None
        self._timer: Timer | None = None
        self._wake: asyncio.Event = asyncio.Event()
        self._stopped = False

    def leases(self) -> list[ProcessLease]:
        """Return all leases that are looked after."""
        return list(self._wheel)

    def _earlier(self) -> None:
        """Look earlier than planned; at first start the task that looks."""
        if self._stopped:
            return
        if self._task is None:
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._run(), name="aiodistlock watchdog")
        # At once: the body may begin in this very turn of the loop, and stall it.
        self._plan()

    async def _run(self) -> None:
        try:
            while True:
                self._wake.clear()
                self._plan()
                await self._wake.wait()
        except asyncio.CancelledError:
            # By ``stop``, or from outside as by the end of ``asyncio.run``: then there
            # is nobody left to end another task.
            self._stopped = True
            raise
        finally:
            self._cancel_timer()

    def _plan(self) -> None:
        """
        Look again when a lease is due, or after a nap.

        The timer itself looks at the leases: woken by it, the task would come one turn of
        the loop later, and so would the loss of a lease.
        """
        self._cancel_timer()
        now = self._clock()
        self._wheel.looks_at = looks_at = min(now + NAP, self._wheel.next_at())
        self._timer = self._timers.call_later(max(0.0, looks_at - now), self._tick)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        """Look at all leases that are due."""
        now = self._clock()
        for lease in self._wheel.due(now):
            self._look_at(lease, now)
        self._wake.set()

    def _look_at(self, lease: ProcessLease, now: float) -> None:
        if not lease.alive:
            return
        if now + GRAIN >= lease.deadline:
            self._lose(lease, LeaseEvent.EXPIRED, "it was not renewed before its deadline")
        elif lease.ends_at is not None and now + GRAIN >= lease.ends_at:
            self._lose(lease, LeaseEvent.EXPIRED, "max_hold is over")
        elif lease.options.auto_renew:
            if lease.renewal is None or lease.renewal.done:
                self._send(lease, now)
            else:
                lease.event(LeaseEvent.UNANSWERED)
                self._try_again_later(lease, now)
                self._store.suspect(lease.renewal)
        else:
            lease.plan()
            self.add(lease)

    def refused(self, lease: ProcessLease, reason: str) -> None:
        """Take in that a lease is not ours any more."""
        self._lose(lease, LeaseEvent.REFUSED, reason)

    def _lose(self, lease: ProcessLease, event: LeaseEvent, reason: str) -> None:
        self.remove(lease)
        lease.event(event)
        # Sent again after a reconnect it would revive a key that nobody holds.
        lease.drop_renewal()
        self._on_lost(lease, reason)

    def _try_again_later(self, lease: ProcessLease, now: float) -> None:
        left = lease.deadline - now
        early = GRAIN if left < 1.0 else TOGETHER * GRAIN  # as the wheel may be
        lease.look_at(now + max(2 * early, min(left, lease.options.ttl) * TRY_SHARE))
        self.add(lease)

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
        keys, token = lease.contender.keys, lease.token
        call = self._store.renew(keys, token, ttl_ms, answer, until)
        if call.reply is None:
            lease.renewal = call
        return call

    def recheck(self, concerned: Callable[[ProcessLease], bool] = lambda _lease: True) -> None:
        """Check all leases concerned now: the server may have been replaced."""
        for lease in self.leases():
            if not concerned(lease):
                continue
            if not lease.options.auto_renew:
                # To renew it would prolong it: only look.
                call = self._store.inspect(lease.contender.keys)
                call.on_reply = partial(self._found, lease)
            elif lease.renewal is None or lease.renewal.done:
                self.renew(lease, then=partial(self._unless_refused, lease))

    def _unless_refused(self, lease: ProcessLease, reply: RenewReply | InspectReply) -> None:
        """Ask again soon where a check was refused for a passing reason: it showed nothing."""
        if type(reply) is Failed and reply.transient and lease.alive and not self._stopped:
            self._timers.call_later(CHECK_AGAIN, self.recheck, lambda each: each is lease)

    def _found(self, lease: ProcessLease, found: InspectReply) -> None:
        self._unless_refused(lease, found)
        if lease.alive and type(found) is Inspected and found.holder != lease.token.decode():
            what = "nothing" if found.holder is None else "another token"
            self.refused(lease, f"the server has {what} at its key")

    def stop(self) -> None:
        """End the task."""
        self._stopped = True
        self._cancel_timer()
        if self._task is not None:
            self._task.cancel()


class _Answer:
    """
    What becomes of the answer to one renewal.

    A partial would do, and take as long, but is three objects to the garbage collector, which
    runs whenever 700 more are there: several times while thousands of renewals are under way.
    """

    __slots__ = ("_lasts", "_lease", "_number", "_then", "_watchdog")

    def __init__(
        self,
        watchdog: Watchdog,
        lease: ProcessLease,
        lasts: float,
        then: Callable[[RenewReply], object] | None,
    ) -> None:
        self._watchdog = watchdog
        self._lease = lease
        self._number = lease.renewals
        self._lasts = lasts
        self._then = then

    def __call__(self, reply: RenewReply) -> None:
        """Have the lease take the answer in."""
        lease, watchdog = self._lease, self._watchdog
        # Only the latest: one that follows it may have shortened the lease again.
        latest = lease.renewals == self._number
        if latest:
            lease.renewal = None
        if not lease.alive:
            pass
        elif type(reply) is NotOurs:
            watchdog.refused(lease, reply.reason)
        elif type(reply) is Renewed and latest:
            watchdog.remove(lease)
            lease.confirm(reply.sent_at + self._lasts)
            watchdog.add(lease)
            if lease.story is not None:
                lease.story.renewed(reply.waiters)
        elif type(reply) is Renewed and lease.renewal is None:
            # Answered behind the latest, so it may have run behind it, too.
            watchdog.remove(lease)
            lease.expect(reply.sent_at + self._lasts)
            lease.plan()
            watchdog.add(lease)
        # Failed: an error decides nothing; the next try follows, until the deadline.
        if self._then is not None:
            self._then(reply)
