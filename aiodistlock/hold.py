"""One ``async with`` block on a lock."""

from __future__ import annotations

import asyncio
import logging
import math
from types import TracebackType
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel

from aiodistlock.engine.body import Body
from aiodistlock.engine.cleanup import settled
from aiodistlock.errors import LeaseLost
from aiodistlock.lease import Lease
from aiodistlock.stores.answers import Done, Failed, NotOurs, ReleaseReply

if TYPE_CHECKING:
    from aiodistlock.lock import AsyncLock

logger = logging.getLogger("aiodistlock")


class Hold(Body):
    """
    One ``async with`` block on a lock; :meth:`AsyncLock.hold` builds it.

    Entering raises what :meth:`AsyncLock.acquire` raises.  When the lease is lost the
    body is cancelled, before Redis lets anybody else in, and the block raises
    :class:`LeaseLost`; so it does if the loss shows only at the end.  A body's own
    exception passes, with the loss attached as a note; so does a cancellation from
    outside, also one that comes together with the loss.  Should Redis not confirm the
    release, that is logged, not raised: the body did its work under a valid lease, and
    the key expires by itself.
    """

    __slots__ = ("_holds", "_lease", "_lock", "_outer_hold", "_timeout")

    def __init__(
        self,
        lock: AsyncLock,
        timeout: float | None,
        holds: dict[asyncio.Task[Any] | None, Hold] | None = None,
    ) -> None:
        # Body's, written out: this runs for every block.
        self._task = None
        self._delivery = None
        self.delivered = 0
        self._lock = lock
        self._timeout = timeout
        self._lease: Lease | None = None
        self._holds = holds
        """The block that each task is in, innermost, for ``async with lock``."""
        self._outer_hold: Hold | None = None

    async def __aenter__(self) -> Lease:
        if self._lease is not None:
            raise RuntimeError("each hold() is for a single 'async with' block")
        lock = self._lock
        contender, task = lock._contend()
        lease = await lock._take(contender, task, self._timeout)
        if lease is None:
            raise contender.timed_out(0.0)
        self._lease = lease
        holds = self._holds
        if holds is not None:
            self._outer_hold = holds.get(task)
            holds[task] = self
        if lease._body is None and lock._options.on_lost == "cancel" and task is not None:
            lease._body = self
            self.enter_body(task)
            if lease._lost_reason is not None:
                self.cancel_body()
        return lease

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        lease = self._lease
        assert lease is not None, "the block was entered"
        if lease._process_lease.contender.engine.forked:
            return  # in a child process: the lease is the parent's, and so is its end
        ours = self._leave(lease, exc)
        lost: LeaseLost | None
        if exc is None and lease._depth == 1 and lease.is_held:
            # The usual way: the next local task has it already, or Redis says done.
            call = lease.give_back()
            if call is None:
                return
            try:
                reply = await call.answer(lease._process_lease.contender.engine.loop)
            except asyncio.CancelledError:
                await settled(call)
                raise
            if type(reply) is Done:
                return
            lost = self._loss(lease, await lease._outcome(call))
        else:
            # Whoever is cancelled, or must stop, does not wait for a silent Redis.
            lost = await self._release(lease, hurry=isinstance(exc, asyncio.CancelledError))
        if lost is None:
            return
        if self.delivered and isinstance(exc, asyncio.CancelledError):
            await _be_cancelled_by_scope_around(lost)
        if exc is None or ours:
            raise lost from None
        exc.add_note(str(lost))

    def _leave(self, lease: Lease, exc: BaseException | None) -> bool:
        """End the body; tell whether ``exc`` is only our cancellation."""
        if self._holds is not None:
            if self._outer_hold is None:
                del self._holds[lease._task]
            else:
                self._holds[lease._task] = self._outer_hold
        if lease._body is not self:
            return False
        lease._body = None
        return self._delivery is not None and self.leave_body(exc)

    async def _release(self, lease: Lease, *, hurry: bool) -> LeaseLost | None:
        """Release the lease unless the body did; return the loss, if it was lost."""
        lost = None if lease._lost_reason is None else lease._loss()
        if lease._released:
            return lost
        if lost is None and lease._depth == 1 and not lease.is_held:
            lost = lease._loss_at_release("its deadline has passed")
        reply = await lease._release(hurry=hurry or lost is not None)
        return lost or self._loss(lease, reply)

    def _loss(self, lease: Lease, reply: ReleaseReply | None) -> LeaseLost | None:
        """Return the loss that only the release has shown."""
        if isinstance(reply, NotOurs):
            return lease._loss_at_release(reply.reason)
        if isinstance(reply, Failed):
            logger.warning(
                "release of %r not confirmed, its key expires by itself: %s",
                lease.name,
                reply.cause,
            )
        return None


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
