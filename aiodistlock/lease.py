"""What a holder holds."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from aiodistlock.core.options import check_ttl
from aiodistlock.engine.body import Body
from aiodistlock.engine.cleanup import settled
from aiodistlock.engine.contender import Contender
from aiodistlock.engine.process_lease import ProcessLease
from aiodistlock.engine.waiter import Waiter
from aiodistlock.errors import LeaseLost, LockError, NotHeld, StoreUnavailable
from aiodistlock.stores.answers import Done, Failed, NotOurs, ReleaseReply
from aiodistlock.stores.base import Call

logger = logging.getLogger("aiodistlock")


class Lease:
    """
    One period of possession of a lock, from grant to release or loss.

    Until its :attr:`validity` is over nobody else holds a lease on the name, as long
    as Redis keeps its data and clocks run evenly.  Beyond that the
    :attr:`fencing_token` protects: hand it to the resource, which refuses tokens below
    the highest that it has seen.

    Leases come from :class:`~aiodistlock.AsyncLock`; they are not built by hand.

    :ivar int fencing_token: grows with every lease on the name; fits into 2**53
    """

    __slots__ = (
        "__weakref__",
        "_body",
        "_depth",
        "_lost",
        "_lost_reason",
        "_owner",
        "_process_lease",
        "_released",
        "_task",
        "fencing_token",
    )

    def __init__(self, process_lease: ProcessLease, fence: int, waiter: Waiter) -> None:
        self.fencing_token = fence
        self._process_lease = process_lease
        self._task = waiter.task
        self._owner = waiter.owner
        self._depth = 1
        self._released = False
        self._lost_reason: str | None = None
        self._lost: asyncio.Event | None = None
        self._body: Body | None = None
        process_lease.contender.engine.holders[process_lease.contender.keys.key] = self

    def __repr__(self) -> str:
        return f"<Lease on {self.name!r}, fencing token {self.fencing_token}, {self._describe()}>"

    def _describe(self) -> str:
        if self._lost_reason is not None:
            return f"lost: {self._lost_reason}"
        if self._released:
            return "released"
        return f"valid for {self.validity:.3f} s"

    @property
    def name(self) -> str:
        """The name of the lock."""
        return self._process_lease.contender.keys.name

    @property
    def token(self) -> str:
        """What stands at the key in Redis: it tells host, process and acquisition."""
        return self._process_lease.token.decode()

    @property
    def validity(self) -> float:
        """
        Seconds for which the lease can be relied on, without another renewal.

        Counted the careful way (from before the request was sent, less drift), and 0.0
        once the lease is lost or released.
        """
        lease = self._process_lease
        engine = lease.contender.engine
        if self._released or self._lost_reason is not None or engine.forked:
            return 0.0
        until = lease.deadline if lease.ends_at is None else min(lease.deadline, lease.ends_at)
        return max(0.0, until - engine.clock())

    @property
    def is_held(self) -> bool:
        """Whether the lease can be relied on at this instant; asks nobody."""
        # As validity, which takes twice as long to ask.
        lease = self._process_lease
        engine = lease.contender.engine
        if self._released or self._lost_reason is not None or engine.forked:
            return False
        now = engine.clock()
        return now < lease.deadline and (lease.ends_at is None or now < lease.ends_at)

    def check(self) -> None:
        """
        Check that the lease can be relied on at this instant; no I/O.

        :raises LeaseLost: if it is lost, or its deadline has passed
        :raises NotHeld: if it was released
        :raises LockError: in a child process: ``os.fork`` does not copy a lease
        """
        if self.validity > 0.0:
            return
        if self._released and self._lost_reason is None:
            raise NotHeld(self.name)
        if self._process_lease.contender.engine.forked:
            raise LockError(self.name, "the lease belongs to the parent of this process")
        raise self._loss()

    async def wait_lost(self) -> bool:
        """
        Wait until the lease ends: ``True`` if it is lost, ``False`` if released.

        Cancellation leaves everything as it is.
        """
        if self._lost is None:
            self._lost = asyncio.Event()
            if self._released or self._lost_reason is not None:
                self._lost.set()
        await self._lost.wait()
        return self._lost_reason is not None

    def _loss(self) -> LeaseLost:
        reason = self._lost_reason or "its deadline has passed"
        return LeaseLost(self.name, reason, self.fencing_token)

    async def extend(self, ttl: float) -> None:
        """
        Set the remaining time to ``ttl`` seconds from now.

        The watchdog goes on from there, and renews to the lock's own ttl when a third
        of that is used up.  Cancelled here, the request still takes effect.

        :raises ValueError: if ``ttl`` is no number of seconds from 0.05, on a quorum at most
            the client's ``quarantine``
        :raises LeaseLost: if the lease is lost, or Redis says that it is not ours
        :raises NotHeld: if it was released
        :raises StoreUnavailable: if Redis did not answer while the lease was valid
        """
        lease = self._process_lease
        engine = lease.contender.engine
        check_ttl(ttl, engine.longest_ttl)
        self.check()
        engine.check(self.name)
        reply = await engine.watchdog.renew(lease, ttl, until=lease.deadline)
        self.check()
        if isinstance(reply, Failed):
            raise StoreUnavailable(self.name, reply.causes)

    async def release(self) -> None:
        """
        Give the lock up: to the next task here, the next process, or to nobody.

        Cancelled here, the request still goes out; the caller waits for at most a
        quarter of a second until Redis has confirmed it.

        :raises NotHeld: if the lease was released before
        :raises LeaseLost: if it was lost, or Redis says that it was not ours any more
        :raises StoreUnavailable: if Redis did not confirm the release while the lease
            was valid; the key expires by itself
        """
        if self._released:
            raise NotHeld(self.name)
        self._process_lease.contender.engine.check(self.name)
        lost = self._lost_reason is not None
        reply = await self._release(hurry=lost)
        if lost:
            raise self._loss()
        if isinstance(reply, NotOurs):
            raise self._loss_at_release(reply.reason)
        if isinstance(reply, Failed):
            raise StoreUnavailable(self.name, reply.causes)

    async def _release(self, *, hurry: bool = False) -> ReleaseReply | None:
        """
        Release, and return what Redis said; ``None`` if it was not asked.

        :param hurry: wait only a quarter of a second, ``None`` if it said nothing
        """
        self._depth -= 1
        if self._depth:
            return None
        call = self.give_back()
        if call is None:
            return None
        if hurry:
            reply = await settled(call)
            return Done() if isinstance(reply, NotOurs) and call.resent else reply
        return await self._outcome(call)

    async def _outcome(self, call: Call[ReleaseReply]) -> ReleaseReply:
        """Wait for the answer; cancelled, only for as long as a clean-up may take."""
        try:
            reply = await call
            return reply if type(reply) is Done else await self._confirmed(call)
        except asyncio.CancelledError:
            await settled(call)
            raise

    async def _confirmed(self, call: Call[ReleaseReply]) -> ReleaseReply:
        """Wait for the answer, asking again while Redis refuses for a passing reason."""
        lease = self._process_lease
        engine = lease.contender.engine
        tries = 0
        reply = await call
        while isinstance(reply, Failed) and reply.transient and not engine.closed:
            pause = lease.options.backoff.delay(tries, engine.rng)
            if engine.clock() + pause >= lease.deadline:
                break
            await asyncio.sleep(pause)
            tries += 1
            reply = await lease.contender.release_at_redis(lease)
        if isinstance(reply, NotOurs) and (call.resent or tries):
            # An earlier copy of the request may have done it, and its answer was lost.
            return Done()
        return reply

    def give_back(self) -> Call[Any] | None:
        """Release without waiting; return the request that does it, if it takes one."""
        self._released = True
        lease = self._process_lease
        contender = lease.contender
        self._forget(contender)
        return contender.release(lease)

    def lose(self, reason: str) -> None:
        """Take note of the loss, and cancel the body."""
        self._lost_reason = reason
        contender, token = self._process_lease.contender, self._process_lease.token
        self._forget(contender)
        # At Redis it keeps others out until the body has ended, or its ttl.
        contender.engine.let_go[token] = self
        if self._body is not None:
            self._body.cancel_body()
        self._report_loss(reason)

    def _loss_at_release(self, reason: str) -> LeaseLost:
        """Report a loss that only the release has shown, and return the error."""
        self._report_loss(reason)
        return LeaseLost(self.name, reason, self.fencing_token)

    def _report_loss(self, reason: str) -> None:
        logger.warning(
            "lease on %r lost: %s (fencing token %d)", self.name, reason, self.fencing_token
        )
        story = self._process_lease.story
        if story is not None:
            story.lost(reason)

    def _forget(self, contender: Contender) -> None:
        holders = contender.engine.holders
        if holders.get(contender.keys.key) is self:
            del holders[contender.keys.key]
        if self._lost is not None:
            self._lost.set()
