"""The task that renews leases and reports loss.

Rules
-----
1. A lease is renewed when a third of its ttl is used up; all that are due leave in
   one write.
2. A renewal that is refused ends the lease at once.
3. One that is unanswered for a sixth of what is left makes it uncertain, is tried again,
   and the connection is suspected.  The connection sends again what is in flight, so
   a second request follows only where the first was answered with an error.
4. One that only lingers is not renewed, but released when it would be due.
5. At its deadline the lease is lost, whatever is in flight.

When each lease is due stands in the :class:`~aiodistlock.leases.timer_wheel.TimerWheel`; a single
renewal is told in :mod:`~aiodistlock.leases.renewal`.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from functools import partial

from aiodistlock.core.background import end_task, start_task
from aiodistlock.core.clock import Clock, Timer, Timers
from aiodistlock.leases.process_lease import ProcessLease
from aiodistlock.leases.renewal import Renewer
from aiodistlock.leases.states import LeaseEvent
from aiodistlock.leases.timer_wheel import GRAIN, TimerWheel
from aiodistlock.protocol.answers import Failed, Inspected, InspectReply, RenewReply
from aiodistlock.protocol.store import Store

NAP = 0.25
"""Longest sleep of the task, seconds.

The event loop's clock stands still while the machine is suspended; the leases' does
not.  So after a resume the task must not sleep on for what was left before.
"""

STANDSTILL = 0.001
"""Seconds from a look at the clock to a timer planned by it, from which on it is too late.

A timer counts from when it is planned.  A process that the machine gave no time in between
would find the loss by as much later, at most a nap, while bodies run again.
"""

LOSSES_FOR = 60.0
"""Seconds for which a loss is counted among the recent ones."""

CHECK_AGAIN = 1.0
"""Seconds until a check is repeated that a server refused for a passing reason."""


class Watchdog(Renewer):
    """
    Looks after all leases of one ``LockClient``.

    :param timers: by which the task sleeps; they run as ``clock`` does
    """

    def __init__(self, store: Store, clock: Clock, timers: Timers) -> None:
        self._store = store
        self._clock = clock
        self._timers = timers
        self._wheel = TimerWheel(self._earlier)
        # The wheel's own, without a call between: they run for every lease.
        self.add, self.remove = self._wheel.add, self._wheel.remove
        self._task: asyncio.Task[None] | None = None
        self._timer: Timer | None = None
        self._wake: asyncio.Event = asyncio.Event()
        self._stopped = False
        self.lost_at: deque[float] = deque()
        """Local instants of the losses within :data:`LOSSES_FOR`."""

    def leases(self) -> list[ProcessLease]:
        """Return all leases that are looked after."""
        return list(self._wheel)

    def lag(self) -> float:
        """Return by how many seconds it is late to look, of any thread: how long the loop hangs."""
        return max(0.0, self._clock() - self._wheel.looks_at)

    def lost_lately(self) -> int:
        """Return how many leases were lost within :data:`LOSSES_FOR`."""
        since = self._clock() - LOSSES_FOR
        return sum(at >= since for at in self.lost_at)

    def _earlier(self) -> None:
        """Look earlier than planned; at first start the task that looks."""
        if self._stopped:
            return
        if self._task is None:
            self._task = start_task(self._run(), "aiodistlock watchdog")
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
        Look again when a lease is due, or after a nap; without any lease, when one is added.

        The timer itself looks at the leases: woken by it, the task would come one turn of
        the loop later, and so would the loss of a lease.
        """
        self._cancel_timer()
        due_at = self._wheel.next_at()
        if due_at == math.inf:
            self._wheel.looks_at = math.inf
            return
        now = self._clock()
        self._wheel.looks_at = looks_at = min(now + NAP, due_at)
        self._timer = self._timers.call_later(max(0.0, looks_at - now), self._tick)
        if self._clock() - now > STANDSTILL:
            self._cancel_timer()
            self._timer = self._timers.call_later(0.0, self._tick)

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
        if lease.holder is None and lease.possessor.lingers(lease):
            lease.possessor.end_lingering(lease)
            return
        if now + GRAIN >= lease.deadline:
            self._lose(lease, LeaseEvent.EXPIRED, "it was not renewed before its deadline")
        elif lease.ends_at is not None and now + GRAIN >= lease.ends_at:
            self._lose(lease, LeaseEvent.EXPIRED, "max_hold is over")
        elif lease.options.auto_renew:
            if lease.renewal is None or lease.renewal.done:
                self._send(lease, now)
                lease.possessor.on_renewal_due(lease)
            else:
                lease.event(LeaseEvent.UNANSWERED)
                self._try_again_later(lease, now)
                self._store.connection.suspect(lease.renewal)
        else:
            lease.plan()
            self.add(lease)

    def refused(self, lease: ProcessLease, reason: str) -> None:
        """Take in that a lease is not ours any more."""
        self._lose(lease, LeaseEvent.REFUSED, reason)

    def _lose(self, lease: ProcessLease, event: LeaseEvent, reason: str) -> None:
        self.remove(lease)
        self.lost_at.append(now := self._clock())
        while self.lost_at[0] < now - LOSSES_FOR:
            self.lost_at.popleft()
        lease.event(event)
        # Sent again after a reconnect it would revive a key that nobody holds.
        lease.drop_renewal()
        lease.possessor.on_lost(lease, reason)

    def recheck(self, concerned: Callable[[ProcessLease], bool] = lambda _lease: True) -> None:
        """Check all leases concerned now: the server may have been replaced."""
        for lease in self.leases():
            if not concerned(lease):
                continue
            if not lease.options.auto_renew:
                # To renew it would prolong it: only look.
                call = self._store.inspect(lease.keys)
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

    async def join(self) -> None:
        """Wait until the task has ended."""
        await end_task(self._task)
