"""What every lock-like thing does: hold, acquire, try."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Sequence
from inspect import CO_ASYNC_GENERATOR
from types import CoroutineType, FrameType, TracebackType
from typing import Any, TypeVar

from aiodistlock.core.durations import Duration
from aiodistlock.core.keys import LockKeys
from aiodistlock.core.options import LockOptions, checked_timeout
from aiodistlock.deployments.source import Source
from aiodistlock.engines import Engines, shared_engines
from aiodistlock.errors import LockError
from aiodistlock.lease import Block, Lease
from aiodistlock.leases.body import is_iterated
from aiodistlock.waiting.acquire import acquire, use_again
from aiodistlock.waiting.contender import Contender
from aiodistlock.waiting.engine import Engine
from aiodistlock.waiting.lingering import Lingering


class _Unset:
    """Marks a ``timeout`` that was not given: the lock's own applies."""


_UNSET = _Unset()
Timeout = Duration | None | _Unset


class LockLike:
    """
    What is held for the length of a block, or acquired and released, by its keys' kind.

    :param source: where it is kept, as :func:`~aiodistlock.engines.check_place` returns it
    """

    __slots__ = ("_contender", "_keys", "_open_blocks", "_options", "_source")

    def __init__(self, source: Source | Engines, keys: LockKeys, options: LockOptions) -> None:
        self._source = source
        self._keys = keys
        self._options = options
        self._contender: Contender | None = None
        self._open_blocks: list[Hold] = []
        """Those of ``async with`` on it: mostly one, as who waits has not begun."""

    @property
    def name(self) -> str:
        """What the lock protects."""
        return self._keys.name

    def hold(self, timeout: Timeout = _UNSET) -> Hold:
        """
        Hold the lock for the length of an ``async with`` block.

        :param timeout: seconds to wait, ``None`` without end; default: the lock's own
        :raises ValueError: if ``timeout`` is no number of seconds from 0

        Entering and leaving the block raise what :class:`Hold` says.
        """
        return Hold(self, self._timeout(timeout))

    def __aenter__(self) -> CoroutineType[Any, Any, Lease]:
        # No coroutine of its own around the hold's, here and below.  Its type is what pyright
        # takes an `async def` for, as in AbstractAsyncContextManager; mypy says less of them.
        hold = Hold(self, self._options.timeout, self._open_blocks)
        return hold.__aenter__()  # type: ignore[return-value]

    def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> CoroutineType[Any, Any, None]:
        frame = sys._getframe(1)
        blocks = self._open_blocks
        if blocks and blocks[-1]._frame is frame:
            return blocks[-1].__aexit__(exc_type, exc, traceback)  # type: ignore[return-value]  # as above
        try:
            task = asyncio.current_task()
        except RuntimeError:  # no loop runs: a child process leaves the parent's block
            return _leave_to_the_parent()  # type: ignore[return-value]  # as above
        block = block_left(blocks, frame, task, self.name)
        return block.__aexit__(exc_type, exc, traceback)  # type: ignore[return-value]  # as above

    async def acquire(self, timeout: Timeout = _UNSET) -> Lease:
        """
        Acquire the lock; the caller releases the lease.

        Nothing cancels the caller when the lease is lost: ask :meth:`Lease.check`, or
        use ``async with``.  Keep the lease: one that nobody refers to any more is released,
        with a ``ResourceWarning`` and a line in the log.  Cancelled here, nothing stays
        behind in Redis, which takes at most a quarter of a second to confirm.

        :param timeout: seconds to wait, ``None`` without end; default: the lock's own
        :raises ValueError: if ``timeout`` is no number of seconds from 0
        :raises AcquireTimeout: if the lock was not free within ``timeout``
        :raises StoreUnavailable: if Redis was unreachable, or refused, for longer than
            the client's ``unavailable_after``
        :raises LockError: if this task holds the lock already (unless ``reentrant``),
            or the client is closed, or belongs to another event loop or process
        """
        contender, task = self._contend()
        lease = await self._take(contender, task, self._timeout(timeout))
        if lease is None:
            raise contender.timed_out(0.0)
        return lease

    async def try_acquire(self) -> Lease | None:
        """
        Acquire the lock if it is free now; ``None`` if it is not.

        One attempt; never waits for a holder.  Cancelled here, nothing stays behind.

        :raises StoreUnavailable: if Redis was unreachable, or refused, for longer than
            the client's ``unavailable_after``
        :raises LockError: if the client is closed, or belongs to another event loop or
            process
        """
        return await self._take(*self._contend(), 0)

    def _timeout(self, timeout: Timeout) -> float | None:
        if isinstance(timeout, _Unset):
            return self._options.timeout
        return checked_timeout(timeout)

    def _engine(self) -> Engine:
        source = self._source
        client = source if isinstance(source, Engines) else shared_engines(source)
        return client._engine(self.name, self._options.ack)

    def _contend(self) -> tuple[Contender, asyncio.Task[Any] | None]:
        """Return who contends for the name in this event loop, and the task that asks."""
        contender = self._contender
        if contender is not None:
            task = contender.client.task_here()
            if task is not None:
                return contender, task
        engine = self._engine()
        task = asyncio.current_task()
        if not self._options.shares_lease:
            return Contender(engine, self._keys), task
        self._contender = contender = engine.contender(self._keys)
        if self._options.linger and contender.lingering is None:
            contender.lingering = Lingering(engine, self._keys)
        return contender, task

    def _take(
        self, contender: Contender, task: asyncio.Task[Any] | None, timeout: float | None
    ) -> Awaitable[Lease | None]:
        """Acquire; ``None`` if ``timeout`` is 0 and the lock is not free."""
        client = contender.client
        held = client.holders.get(self._keys.key)
        ours: Any = None if held is None or held.holder is None else held.holder()
        if ours is not None and ours._task is task:
            same = ours._client is client
            if self._options.reentrant and same:
                return self._again(ours)
            if timeout != 0:
                raise holds_already(self.name, same=same)
        lingering = contender.lingering
        if lingering is not None and lingering.lease is not None:
            lease = self._at_hand(contender, task, timeout)
            if lease is not None:
                return _at_once(lease)
            if lingering.lease is not None:
                return self._behind_checkpoint(contender, task, timeout)
        return acquire(contender, self._options, Lease, self._source, task, timeout)

    def _at_hand(
        self, contender: Contender, task: asyncio.Task[Any] | None, timeout: float | None
    ) -> Lease | None:
        """
        Use the lease that lingers, without a wait; ``None`` if that cannot be.

        Then it lingers no more, or a checkpoint is due first.
        """
        client = contender.client
        now = client.clock()
        if now >= client.checkpoint.due_at:
            return None
        return use_again(contender, self._options, Lease, self._source, task, timeout, now)

    async def _behind_checkpoint(
        self, contender: Contender, task: asyncio.Task[Any] | None, timeout: float | None
    ) -> Lease | None:
        # Before the lease is taken: cancelled here, the task holds nothing.
        await contender.client.checkpoint.wait()
        client = contender.client
        client.check(self.name)
        now = client.clock()
        lease = use_again(contender, self._options, Lease, self._source, task, timeout, now)
        if lease is not None:
            return lease
        return await acquire(contender, self._options, Lease, self._source, task, timeout)

    async def _again(self, lease: Lease) -> Lease:
        lease.check()
        lease._depth += 1
        return lease


def holds_already(name: str, *, same: bool) -> LockError:
    """
    Build the error for a task that would wait for itself.

    :param same: whether it holds the lock at the durability level at which it asks
    """
    return LockError(
        name,
        "this task holds the lock already and would wait for itself for ever; "
        + ("pass reentrant=True, or" if same else "use the same ack=, or")
        + " hand the lease down",
    )


async def _at_once(lease: Lease) -> Lease:
    """Return a lease that nobody has to wait for."""
    return lease


class Hold(Block):
    """
    One ``async with`` block on a lock; :meth:`AsyncLock.hold` builds it.

    Entering raises what :meth:`AsyncLock.acquire` raises.  When the lease is lost the
    body is cancelled, before Redis lets anybody else in, and the block raises
    :class:`LeaseLost`; so it does if the loss shows only at the end.  A body's own
    exception passes, with the loss attached as a note; so does a cancellation from
    outside, also one that comes together with the loss.  Should Redis not confirm the
    release, that is logged, not raised: the body did its work under a valid lease, and
    the key expires by itself.

    Cancelled for a loss, the body may clean up for a second in all
    (``finally: await connection.close()``); then what it still awaits is cancelled as well.
    Write nothing there that another holder could contradict.  An anyio scope that shields is
    left alone for as long as it lasts, and so is what waits for a thread in it.

    Any task may leave the block.  The one that entered it is cancelled, unless it has ended;
    if the block is in an async generator that is iterated (not in an
    ``@asynccontextmanager``), only while it runs the generator.
    """

    __slots__ = ("_lock", "_timeout")

    def __init__(
        self, lock: LockLike, timeout: float | None, open_blocks: list[Hold] | None = None
    ) -> None:
        # Block's, written out: this runs for every block.
        self._task = None
        self._cancellation = None
        self._frame = None
        self._iterated = False
        self._lease = None
        self._open = open_blocks
        self._lock = lock
        self._timeout = timeout

    async def __aenter__(self) -> Lease:
        if self._lease is not None:
            raise RuntimeError("each hold() is for a single 'async with' block")
        # What awaits this is told before the first await only.
        frame = sys._getframe(1)
        if frame.f_code.co_flags & CO_ASYNC_GENERATOR:
            self._iterated = is_iterated(frame)
        lock = self._lock
        contender, task = lock._contend()
        lingering = contender.lingering
        if lingering is None or lingering.lease is None:
            lease = None
        else:  # nobody here holds it, so it need not be asked whether this task does
            lease = lock._at_hand(contender, task, self._timeout)
        if lease is None:
            lease = await lock._take(contender, task, self._timeout)
        if lease is None:
            raise contender.timed_out(0.0)
        self._begin(lease, task, frame)
        return lease


B = TypeVar("B", bound=Block)


def block_left(
    blocks: Sequence[B], frame: FrameType, task: asyncio.Task[Any] | None, name: str
) -> B:
    """
    Tell which open block is left.

    The one in the frame that leaves it, whichever task runs that.  A frame between (an
    ``AsyncExitStack``, say) leaves the innermost of its own task; else there must be no
    choice.  Where there is one, the lease is lost: none may be kept because it was taken
    for another.

    :param frame: where it is left
    :param task: the task that leaves it
    :raises LockError: if it cannot be told
    """
    for each in reversed(blocks):
        if each._frame is frame:
            return each
    loop = asyncio.get_running_loop()
    here = [it for it in blocks if _lease_of(it)._client.loop is loop]
    for each in reversed(here):
        if _lease_of(each)._task is task:
            return each
    leases = {_lease_of(each) for each in here}
    if len(leases) == 1:
        return here[-1]
    for lease in [each for each in leases if each.is_held]:
        held = lease._process_lease
        reason = "it could not be told which block on the lock was left"
        lease._client.watchdog.refused(held, reason)
        held.possessor.release_at_redis(held)
    raise LockError(
        name,
        "it cannot be told which block is left here: enter it by `async with lock.hold()`, "
        "which any task may leave",
    )


def _lease_of(block: Block) -> Lease:
    assert block._lease is not None, "it is open"
    return block._lease


async def _leave_to_the_parent() -> None:
    """Leave a block in a child process: the lease is the parent's, and so is its end."""
