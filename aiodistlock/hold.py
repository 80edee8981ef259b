"""One ``async with`` block on a lock."""

from __future__ import annotations

import asyncio
import logging
from types import TracebackType
from typing import TYPE_CHECKING

import anyio

from aiodistlock.errors import LeaseLost
from aiodistlock.lease import Lease
from aiodistlock.stores.base import Failed, NotOurs

if TYPE_CHECKING:
    from aiodistlock.lock import AsyncLock

logger = logging.getLogger("aiodistlock")


class Hold:
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

    __slots__ = ("_cancelling", "_lease", "_lock", "_scope", "_timeout")

    def __init__(self, lock: AsyncLock, timeout: float | None) -> None:
        self._lock = lock
        self._timeout = timeout
        self._lease: Lease | None = None
        self._scope: anyio.CancelScope | None = None
        self._cancelling = 0

    async def __aenter__(self) -> Lease:
        if self._lease is not None:
            raise RuntimeError("each hold() is for a single 'async with' block")
        lease = self._lease = await self._lock.acquire(self._timeout)
        if lease._scope is None and self._lock._options.on_lost == "cancel":
            # The scope delivers its cancellation until the body ends; a bare
            # task.cancel() may be swallowed on the way (CPython #86296).
            self._cancelling = _cancelling()
            self._scope = lease._scope = anyio.CancelScope()
            self._scope.__enter__()
            if lease._lost_reason is not None:
                self._scope.cancel()
        return lease

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        lease = self._lease
        assert lease is not None, "the block was entered"
        ours = False
        try:
            if self._scope is not None:
                lease._scope = None
                ours = bool(self._scope.__exit__(exc_type, exc, traceback))
                # asyncio folds two cancellations in one turn into one exception; anyio
                # before 4.16 takes that for its own alone (agronholm/anyio#1214).
                ours = ours and _cancelling() <= self._cancelling
        finally:
            # Whoever is cancelled, or must stop, does not wait for a silent Redis.
            hurry = isinstance(exc, asyncio.CancelledError)
            lost = await self._release(lease, hurry)
        if lost is None:
            return False
        if exc is None or ours:
            raise lost from None
        exc.add_note(str(lost))
        return False

    async def _release(self, lease: Lease, hurry: bool) -> LeaseLost | None:
        """Release the lease unless the body did; return the loss, if it was lost."""
        lost = None if lease._lost_reason is None else lease._loss()
        if lease._released:
            return lost
        if lost is None and lease._depth == 1 and not lease.is_held:
            lost = lease._loss()
        reply = await lease._release(hurry=hurry or lost is not None)
        if lost is None and isinstance(reply, NotOurs):
            lost = LeaseLost(lease.name, reply.reason, lease.fencing_token)
        if isinstance(reply, Failed):
            logger.warning(
                "release of %r not confirmed, its key expires by itself: %s",
                lease.name,
                reply.cause,
            )
        return lost


def _cancelling() -> int:
    """Return how many cancellations of the current task are pending."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()
