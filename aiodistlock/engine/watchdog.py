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

The leases are kept in a timer wheel: a dict of sets by instant, in steps of ``GRAIN``
(G. Varghese, A. Lauck, "Hashed and Hierarchical Timing Wheels", SOSP 1987).  One that
is not due before the task looks again is not even sorted into it until then: most are
released long before, so an uncontended acquisition costs a set two operations, and no
timer, no task.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Callable
from functools import partial

from aiodistlock.core.clock import Clock, Timers
from aiodistlock.core.lease_state import TRY_SHARE, LeaseEvent, relied_on
from aiodistlock.core.options import LockOptions, to_ms
from aiodistlock.engine.process_lease import ProcessLease
from aiodistlock.stores.answers import NotOurs, Renewed, RenewReply
from aiodistlock.stores.base import Call, Store

GRAIN = 0.005
"""Seconds to one step of the wheel; leases are looked at up to one step early."""

TOGETHER = 4
"""Steps whose renewals leave in one write, where more than a second is left for it."""

NAP = 0.25
"""Longest sleep of the task, seconds.

The event loop's clock stands still while the machine is suspended; the leases' does
not.  So after a resume the task must not sleep on for what was left before.
"""


def _step(lease: ProcessLease) -> int:
    """Return the step of the wheel in which a lease is looked at."""
    step = int(lease.due_at / GRAIN)
    # The end by max_hold is no renewal: looked at too early, it would be renewed until then.
    together = lease.ends_at is None and lease.deadline - lease.due_at > 1.0
    return step - step % TOGETHER if together else step


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
        self._wheel: dict[int, set[ProcessLease] | None] = {}
        self._steps: list[int] = []
        self._unsorted: set[ProcessLease] = set()
        """Leases that are due after ``_looks_at``, to be sorted into the wheel then."""
        self._task: asyncio.Task[None] | None = None
        self._wake: asyncio.Event = asyncio.Event()
        self._looks_at = 0.0
        """When the task looks again."""
        self._stopped = False

    def add(self, lease: ProcessLease) -> None:
        """Look after a lease from now on, first at its ``due_at``."""
        if lease.due_at > self._looks_at and self._task is not None:
            self._unsorted.add(lease)
        else:
            self._sort(lease)

    def _sort(self, lease: ProcessLease) -> None:
        step = _step(lease)
        leases = self._wheel.get(step)
        if leases is None:
            if step not in self._wheel:
                heapq.heappush(self._steps, step)
            self._wheel[step] = {lease}
            if self._task is None and not self._stopped:
                self._task = asyncio.get_running_loop().create_task(
                    self._run(), name="aiodistlock watchdog"
                )
            elif lease.due_at < self._looks_at:
                self._wake.set()
        else:
            leases.add(lease)

    def remove(self, lease: ProcessLease) -> None:
        """Look after a lease no longer."""
        if lease in self._unsorted:
            self._unsorted.remove(lease)
            return
        step = _step(lease)
        leases = self._wheel.get(step)
        if leases is not None:
            leases.discard(lease)
            if not leases:
                # An empty set takes 200 bytes, and with a long ttl many steps are ahead.
                self._wheel[step] = None

    def apply(self, options: LockOptions, lease: ProcessLease) -> None:
        """Let a lease go on by the options of its next holder."""
        self.remove(lease)
        lease.options = options
        lease.ends_at = None
        if options.max_hold is not None:
            lease.ends_at = self._clock() + options.max_hold
        lease.plan()
        self.add(lease)

    def leases(self) -> list[ProcessLease]:
        """Return all leases that are looked after."""
        sorted_in = [lease for leases in self._wheel.values() for lease in leases or ()]
        return [*sorted_in, *self._unsorted]

    async def _run(self) -> None:
        try:
            while True:
                self._wake.clear()
                pause = self._pause()
                # The timer itself looks at the leases: woken by it, this task would
                # come one turn of the loop later, and so would the loss of a lease.
                timer = self._timers.call_later(pause, self._tick)
                try:
                    await self._wake.wait()
                finally:
                    timer.cancel()
        except asyncio.CancelledError:
            # By ``stop``, or from outside as by the end of ``asyncio.run``: then there
            # is nobody left to end another task.
            self._stopped = True
            raise

    def _pause(self) -> float:
        """Return for how long there is nothing to do."""
        now = self._clock()
        unsorted, self._unsorted = self._unsorted, set()
        for lease in unsorted:
            self._sort(lease)
        self._looks_at = now + NAP
        if self._steps:
            self._looks_at = min(self._looks_at, self._steps[0] * GRAIN)
        return max(0.0, self._looks_at - now)

    def _tick(self) -> None:
        """Look at all leases that are due."""
        now = self._clock()
        while self._steps and self._steps[0] * GRAIN <= now:
            for lease in self._wheel.pop(heapq.heappop(self._steps)) or ():
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
                self._send(lease)
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
        left = min(lease.deadline - now, lease.options.ttl)
        lease.look_at(now + max(2 * GRAIN, left * TRY_SHARE))
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
        return self._send(lease, ttl, then, until)

    def _send(
        self,
        lease: ProcessLease,
        ttl: float | None = None,
        then: Callable[[RenewReply], object] | None = None,
        until: float = math.inf,
    ) -> Call[RenewReply]:
        """Send a renewal of a lease that is not in the wheel, and put it in."""
        now = self._clock()
        options = lease.options
        ttl_ms, lasts = options.ttl_ms, options.relied_on
        if ttl is None and lease.deadline - now > options.ttl:
            ttl = lease.deadline - now
        if ttl is not None:
            ttl_ms, lasts = to_ms(ttl), relied_on(ttl)

        if lease.story is not None:
            lease.story.renewal_due(min(lease.due_at, now))
        lease.expect(now + lasts)
        self._try_again_later(lease, now)
        lease.renewals = number = lease.renewals + 1
        answered = partial(self._take_in, lease, number, lasts, then)
        keys, token = lease.contender.keys, lease.token
        call = self._store.renew(keys, token, ttl_ms, answered, until)
        if call.reply is None:
            lease.renewal = call
        return call

    def _take_in(
        self,
        lease: ProcessLease,
        number: int,
        lasts: float,
        then: Callable[[RenewReply], object] | None,
        reply: RenewReply,
    ) -> None:
        # Only the latest: one that follows it may have shortened the lease again.
        latest = lease.renewals == number
        if latest:
            lease.renewal = None
        if not lease.alive:
            pass
        elif type(reply) is NotOurs:
            self.refused(lease, reply.reason)
        elif type(reply) is Renewed and latest:
            self.remove(lease)
            lease.confirm(reply.sent_at + lasts)
            self.add(lease)
            if lease.story is not None:
                lease.story.renewed(reply.waiters)
        # Failed: an error decides nothing; the next try follows, until the deadline.
        if then is not None:
            then(reply)

    def recheck(self, concerned: Callable[[ProcessLease], bool] = lambda _lease: True) -> None:
        """Renew all leases concerned now: the server may have been replaced."""
        for lease in self.leases():
            idle = lease.renewal is None or lease.renewal.done
            if lease.options.auto_renew and idle and concerned(lease):
                self.renew(lease)

    def stop(self) -> None:
        """End the task."""
        self._stopped = True
        if self._task is not None:
            self._task.cancel()
