"""The lease as its holder has it, and the block that it scopes."""

from __future__ import annotations

import asyncio
import logging
import math
import sys
from inspect import CO_ASYNC_GENERATOR
from types import FrameType, TracebackType
from typing import Any, Self

import anyio
import anyio.lowlevel

from aiodistlock.core.background import is_thrown_away
from aiodistlock.core.durations import Duration
from aiodistlock.core.escaping import described, quoted
from aiodistlock.errors import LeaseLost, LockError, NotHeld, StoreUnavailable
from aiodistlock.leases.body import Body, is_iterated
from aiodistlock.leases.process_lease import ProcessLease
from aiodistlock.protocol.answers import Done, Failed, NotOurs, ReleaseReply
from aiodistlock.protocol.call import Call
from aiodistlock.protocol.cleanup import confirmed
from aiodistlock.waiting.client_state import ClientState
from aiodistlock.waiting.pauses import pause_refused

logger = logging.getLogger("aiodistlock")


class Lease:
    """
    One period of possession of a lock, from grant to release or loss.

    Until its :attr:`validity` is over nobody else holds a lease on the name, as long
    as Redis keeps its data and clocks run evenly.  Beyond that the
    ``fencing_token`` protects: hand it to the resource, which refuses tokens below
    the highest that it has seen.

    Leases come from :class:`~aiodistlock.AsyncLock`; they are not built by hand.  A lease is
    a context manager, whose block is as that of :meth:`AsyncLock.hold`, and releases it::

        async with await lock.acquire(timeout=2.0) as lease:
            ...

    :ivar int fencing_token: grows with every lease on the name; fits into 2**53
    """

    __slots__ = (
        "__weakref__",
        "_blocks",
        "_body",
        "_client",
        "_depth",
        "_lost",
        "_lost_reason",
        "_owner",
        "_process_lease",
        "_released",
        "_task",
        "fencing_token",
    )

    def __init__(
        self,
        client: ClientState[Any],
        process_lease: ProcessLease,
        fence: int,
        task: asyncio.Task[Any] | None,
        owner: object,
    ) -> None:
        self._client = client
        self.fencing_token = fence
        self._process_lease = process_lease
        self._task = task
        self._owner = owner
        self._depth = 1
        self._released = False
        self._lost_reason: str | None = None
        self._lost: asyncio.Event | None = None
        self._body: Body | None = None
        self._blocks: list[Block] | None = None
        client.holders[process_lease.held_as] = process_lease

    def __repr__(self) -> str:
        name, state = quoted(self.name), self._describe()
        return f"<Lease on {name}, fencing token {self.fencing_token}, {state}>"

    def _describe(self) -> str:
        if self._lost_reason is not None:
            return f"lost: {self._lost_reason}"
        if self._released:
            return "released"
        return f"valid for {self.validity:.3f} s"

    async def __aenter__(self) -> Self:
        frame = sys._getframe(1)
        try:
            self.check()
        except LeaseLost:
            # Nobody else may have it to release: `async with await lock.acquire()`.
            if self._lost_reason is None and self._depth == 1:
                self._give_back()
            raise
        if self._blocks is None:
            self._blocks = []
        block = Block(self._blocks)
        if frame.f_code.co_flags & CO_ASYNC_GENERATOR:
            block._iterated = is_iterated(frame)
        block._begin(self, asyncio.current_task(), frame)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._blocks, "the block was entered"
        await self._blocks[-1].__aexit__(exc_type, exc, traceback)

    @property
    def name(self) -> str:
        """The name of the lock."""
        return self._process_lease.keys.name

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
        client = self._client
        if self._released or self._lost_reason is not None or client.forked:
            return 0.0
        return self._process_lease.validity_at(client.clock())

    @property
    def is_held(self) -> bool:
        """Whether the lease can be relied on at this instant; asks nobody."""
        # As validity, which takes twice as long to ask.
        lease, client = self._process_lease, self._client
        if self._released or self._lost_reason is not None or client.forked:
            return False
        now = client.clock()
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
        if self._client.forked:
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

    async def extend(self, ttl: Duration) -> None:
        """
        Set the remaining time to ``ttl`` seconds, or a ``timedelta``, from now.

        The watchdog goes on from there, and renews to the lock's own ttl when a third
        of that is used up.  Cancelled here, the request still takes effect.

        :raises ValueError: if ``ttl`` is no duration from 0.05 s, or on a quorum longer than the
            client's ``quarantine``
        :raises LeaseLost: if the lease is lost, or Redis says that it is not ours
        :raises NotHeld: if it was released
        :raises StoreUnavailable: if Redis did not answer while the lease was valid
        """
        lease, client = self._process_lease, self._client
        length = client.options.checked_ttl(ttl, quorum=client.on_quorum)
        self.check()
        client.check(self.name)
        reply = await client.watchdog.renew(lease.renewed_as, length, until=lease.deadline)
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
        if is_thrown_away(self._client.loop):
            return
        self._client.check(self.name)
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
        call = self._give_back()
        if call is None:
            return None
        if hurry:
            reply = await confirmed(call)
            return Done() if isinstance(reply, NotOurs) and call.resent else reply
        return await self._outcome(call)

    async def _outcome(self, call: Call[ReleaseReply]) -> ReleaseReply:
        """Wait for the answer; cancelled, only for as long as a clean-up may take."""
        try:
            reply = await call
            return reply if type(reply) is Done else await self._confirmed(call)
        except asyncio.CancelledError:
            await confirmed(call)
            raise

    async def _confirmed(self, call: Call[ReleaseReply]) -> ReleaseReply:
        """Wait for the answer, asking again while Redis refuses for a passing reason."""
        lease, client = self._process_lease, self._client
        tries = 0
        reply = await call
        while isinstance(reply, Failed) and reply.transient and not client.closed:
            pause = pause_refused(lease.options.backoff, tries, client.rng)
            if client.clock() + pause >= lease.deadline:
                break
            await asyncio.sleep(pause)
            tries += 1
            reply = await lease.possessor.release_at_redis(lease)
        if isinstance(reply, NotOurs) and (call.resent or tries) and not reply.surely:
            # An earlier copy of the request may have done it, and its answer was lost.
            return Done()
        return reply

    def _give_back(self) -> Call[Any] | None:
        """Release without waiting; return the request that does it, if it takes one."""
        self._released = True
        lease = self._process_lease
        self._client.forget_holder(lease)
        if self._lost is not None:
            self._lost.set()
        return lease.possessor.release(lease)

    def _lose(self, reason: str) -> None:
        """Take note of the loss, and cancel the body."""
        self._lost_reason = reason
        client = self._client
        client.forget_holder(self._process_lease)
        if self._lost is not None:
            self._lost.set()
        # At Redis it keeps others out until the body has ended, or its ttl.
        client.let_go[self._process_lease.token] = self
        if self._body is not None:
            self._body._cancel_body()
        self._report_loss(reason)

    def _loss_at_release(self, reason: str) -> LeaseLost:
        """Report a loss that only the release has shown, and return the error."""
        self._report_loss(reason)
        return LeaseLost(self.name, reason, self.fencing_token)

    def _report_loss(self, reason: str) -> None:
        logger.warning(
            "lease on %s lost: %s (fencing token %d)", quoted(self.name), reason, self.fencing_token
        )
        story = self._process_lease.story
        if story is not None:
            story.lost(reason)


class Block(Body):
    """One ``async with`` block on a lease, from its beginning to its release."""

    __slots__ = ("_lease", "_open")

    def __init__(self, open_blocks: list[Any] | None = None) -> None:
        # Body's, written out: this runs for every block.
        self._task = None
        self._cancellation = None
        self._frame = None
        self._iterated = False
        self._lease: Lease | None = None
        self._open = open_blocks
        """Those of a lock or lease that is a context manager itself, the innermost last."""

    def _begin(self, lease: Lease, task: asyncio.Task[Any] | None, frame: FrameType) -> None:
        """Begin the body."""
        self._lease = lease
        self._frame = frame
        if self._open is not None:
            self._open.append(self)
        signals = lease._process_lease.options.on_lost == "signal"
        if lease._body is None and not signals and task is not None:
            lease._body = self
            self._enter_body(task)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        lease = self._lease
        assert lease is not None, "the block was entered"
        if lease._client.forked:
            return  # in a child process: the lease is the parent's, and so is its end
        ours = self._leave(lease, exc)
        if exc is not None and is_thrown_away(lease._client.loop):
            return  # by the loop's end: the key expires by itself
        lost: LeaseLost | None
        if exc is None and lease._depth == 1 and lease.is_held:
            # The usual way: the next local task has it already, or Redis says done.
            call = lease._give_back()
            if call is None:
                return
            try:
                reply = await call.answer(lease._client.loop)
            except asyncio.CancelledError:
                await confirmed(call)
                raise
            if type(reply) is Done:
                return
            lost = loss_shown_by(lease, await lease._outcome(call))
        else:
            # Whoever is cancelled, or must stop, does not wait for a silent Redis.
            lost = await _release(lease, hurry=isinstance(exc, asyncio.CancelledError))
        if lost is None:
            return
        await tell_of_loss(self, lost, exc, ours=ours)

    def _leave(self, lease: Lease, exc: BaseException | None) -> bool:
        """End the body; tell whether ``exc`` is only our cancellation."""
        self._frame = None
        if self._open is not None:
            self._open.remove(self)
        if lease._body is not self:
            return False
        lease._body = None
        return self._cancellation is not None and self._leave_body(exc)


async def _release(lease: Lease, *, hurry: bool) -> LeaseLost | None:
    """Release the lease unless the body did; return the loss, if it was lost."""
    lost = None if lease._lost_reason is None else lease._loss()
    if lease._released:
        return lost
    if lost is None and lease._depth == 1 and not lease.is_held:
        lost = lease._loss_at_release("its deadline has passed")
    reply = await lease._release(hurry=hurry or lost is not None)
    return lost or loss_shown_by(lease, reply)


def loss_shown_by(lease: Lease, reply: ReleaseReply | None) -> LeaseLost | None:
    """Return the loss that only the release has shown."""
    if isinstance(reply, NotOurs):
        return lease._loss_at_release(reply.reason)
    if isinstance(reply, Failed):
        logger.warning(
            "release of %s not confirmed, its key expires by itself: %s",
            quoted(lease.name),
            described(reply.cause),
        )
    return None


async def tell_of_loss(
    body: Body, lost: LeaseLost, exc: BaseException | None, *, ours: bool
) -> None:
    """
    Raise the loss at the end of a body, or note it on the body's own exception, which passes.

    :param ours: whether ``exc`` is nothing but the cancellation that the loss brought
    """
    if body._cancellation is not None and isinstance(exc, asyncio.CancelledError):
        await _be_cancelled_by_scope_around(lost)
    if exc is None or ours:
        raise lost from None
    if not _tells(exc, lost):
        exc.add_note(str(lost))


def _tells(error: BaseException, lost: LeaseLost) -> bool:
    """Tell whether an error of the body tells of the loss already, as by ``lease.check()``."""
    if isinstance(error, BaseExceptionGroup):
        return any(_tells(each, lost) for each in error.exceptions)
    return (
        isinstance(error, LeaseLost)
        and error.name == lost.name
        and error.fencing_token == lost.fencing_token
    )


async def _be_cancelled_by_scope_around(lost: LeaseLost) -> None:
    """
    Let an anyio scope around the block cancel us, if it is cancelled as well.

    It does not know our cancellation as its own, so its own must follow.
    """
    if anyio.current_effective_deadline() == -math.inf:
        try:
            await anyio.lowlevel.checkpoint()
        except asyncio.CancelledError as cancelled:
            cancelled.add_note(str(lost))
            raise
