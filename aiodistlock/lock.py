"""The lock: a definition that any number of tasks may share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, cast

from aiodistlock.client import LockClient, check_lock, shared_client
from aiodistlock.core.backoff import Backoff
from aiodistlock.core.keys import LockKeys
from aiodistlock.core.options import ClientOptions, check_timeout, lock_options
from aiodistlock.engine.acquire import Engine
from aiodistlock.engine.contender import Contender
from aiodistlock.errors import LockError, StoreUnavailable
from aiodistlock.hold import Hold
from aiodistlock.lease import Lease
from aiodistlock.stores.answers import Failed

if TYPE_CHECKING:
    from redis.asyncio import Redis, RedisCluster


@dataclass(frozen=True, slots=True)
class LockInfo:
    """
    What Redis has about a lock at one instant; it may change in the next.

    :ivar holder: token of the holder, ``None`` if the lock is free
    :ivar fencing_token: fencing token issued last, ``None`` if none is kept; local
        hand-offs of the present lease may be ahead of it
    :ivar ttl: seconds left of the lease, ``None`` if free, or held without a ttl
    :ivar waiters: tokens of the waiters in order (on a quorum in no order, and without the
        number of the round that a holder's has); one per process, however many of its
        tasks wait
    """

    holder: str | None
    fencing_token: int | None
    ttl: float | None
    waiters: tuple[str, ...]


class _Unset:
    """Marks a ``timeout`` that was not given: the lock's own applies."""


_UNSET = _Unset()
_BACKOFF = Backoff()
_CLIENT_DEFAULTS = ClientOptions()
Timeout = float | None | _Unset


class AsyncLock:
    """
    A distributed lock for asyncio, as a lease that is renewed while it is held.

    At most one holder at a time, as long as Redis keeps its data and clocks run evenly
    over one ttl; beyond that (a failover that loses writes, say) two are possible, and
    ``lease.fencing_token`` is what protects.  Waiters are served first come, first
    served across processes; the tasks of one process hand over in memory for at most
    ``handoff_span`` while another process waits.

    ::

        lock = AsyncLock(redis, "wallet:42", ttl=10.0)

        async with lock as lease:  # waits; the body is cancelled if the lease is lost
            await db.execute(UPDATE, fence=lease.fencing_token)

    A lock holds no state of any acquisition, so any number of tasks may share it.

    :param redis: a ``redis.asyncio.Redis`` or ``RedisCluster``, whose locks share one
        :class:`LockClient` in each event loop, or a sequence of independent ``Redis``, of
        which a majority decides (Redlock; no order between processes there), or a
        ``LockClient``
    :param name: what the lock protects; the key is ``namespace + name``
    :param ttl: length of a lease in seconds, at least 0.05: how long a crashed holder
        blocks others, and how long Redis may be silent before a live one gives up
    :param auto_renew: renew the lease while it is held; if ``False`` it is over after
        ``ttl`` unless extended
    :param timeout: seconds to wait for the lock, ``None`` without end, 0 not at all
    :param max_hold: seconds after which a lease ends although it could be renewed;
        ``None`` for no such bound
    :param on_lost: ``"cancel"`` the body of ``async with`` when the lease is lost, or
        only ``"signal"`` it (:meth:`Lease.wait_lost`, :attr:`Lease.is_held`)
    :param local_handoffs: how often the tasks of one process hand the lock over in
        memory before another process must be asked, 0 to 1000; 0: each task queues at
        Redis for itself
    :param backoff: pauses between requests that find the lock held, or Redis down
    :param namespace: prefix of the keys in Redis
    :param reentrant: a task that holds the lock may acquire it again, and gets the same
        lease; it is released when the outermost block ends
    :param ack: who must have the lease before it is held: ``"local"``, the server that
        answers; ``"replicas:N"``, also N of its replicas, so that it survives a failover
        to one of them; ``"fsync"``, also the server's disk (Redis 7.2+, ``appendonly
        yes``).  Too few in time: given up and tried again, as while Redis is unreachable.
        For other locks such a lock is one of another process
    :raises TypeError: if ``redis`` is none of these
    :raises ValueError: naming every option that is wrong
    """

    __slots__ = ("_contender", "_holds", "_keys", "_options", "_source")

    def __init__(
        self,
        redis: Redis | RedisCluster | Sequence[Redis] | LockClient,
        name: str,
        *,
        ttl: float = 10.0,
        auto_renew: bool = True,
        timeout: float | None = None,
        max_hold: float | None = None,
        on_lost: Literal["cancel", "signal"] = "cancel",
        local_handoffs: int = 128,
        backoff: Backoff | None = None,
        namespace: str = "lock:",
        reentrant: bool = False,
        ack: str = "local",
    ) -> None:
        self._keys = LockKeys(name, namespace)
        client_options = redis.options if isinstance(redis, LockClient) else _CLIENT_DEFAULTS
        self._options = lock_options(
            ttl=ttl,
            auto_renew=auto_renew,
            timeout=timeout,
            max_hold=max_hold,
            on_lost=on_lost,
            local_handoffs=local_handoffs,
            backoff=_BACKOFF if backoff is None else backoff,
            namespace=namespace,
            reentrant=reentrant,
            ack=ack,
            claim_window=client_options.claim_window,
        )
        self._source = check_lock(redis, self._options)
        self._contender: Contender | None = None
        self._holds: dict[asyncio.Task[Any] | None, Hold] = {}

    def __repr__(self) -> str:
        return f"<AsyncLock {self.name!r}, ttl {self._options.ttl:g} s>"

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

    def __aenter__(self) -> Coroutine[Any, Any, Lease]:
        # No coroutine of its own around the hold's, here and below.
        return Hold(self, self._options.timeout, self._holds).__aenter__()

    def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> Coroutine[Any, Any, None]:
        contender = self._contender
        task = None if contender is None else contender.engine.task_here()
        if task is None:
            try:
                task = asyncio.current_task()
            except RuntimeError:  # no loop runs: a child process leaves the parent's block
                return _leave_to_the_parent()
        hold = self._holds.get(task)
        if hold is None:
            raise LockError(
                self.name,
                "this block was entered by another task, which still holds the lock; where "
                "a framework enters and leaves in different tasks, use acquire() and release()",
            )
        return hold.__aexit__(exc_type, exc, traceback)

    async def acquire(self, timeout: Timeout = _UNSET) -> Lease:
        """
        Acquire the lock; the caller releases the lease.

        Nothing cancels the caller when the lease is lost: ask :meth:`Lease.check`, or
        use ``async with``.  Cancelled here, nothing stays behind in Redis, which takes
        at most a quarter of a second to confirm.

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

    async def locked(self) -> bool:
        """
        Tell whether anybody holds the lock at this instant.

        :raises StoreUnavailable: if Redis did not answer
        """
        return (await self.inspect()).holder is not None

    async def inspect(self) -> LockInfo:
        """
        Tell who holds the lock and who waits; changes nothing.

        :raises StoreUnavailable: if Redis did not answer
        """
        reply = await self._engine().store.inspect(self._keys)
        if isinstance(reply, Failed):
            raise StoreUnavailable(self.name, reply.causes)
        return LockInfo(reply.holder, reply.fence or None, reply.remaining, reply.waiters)

    def _timeout(self, timeout: Timeout) -> float | None:
        if isinstance(timeout, _Unset):
            return self._options.timeout
        check_timeout(timeout)
        return timeout

    def _engine(self) -> Engine:
        source = self._source
        client = source if isinstance(source, LockClient) else shared_client(source)
        return client.engine(self.name, self._options.ack)

    def _contend(self) -> tuple[Contender, asyncio.Task[Any] | None]:
        """Return who contends for the name in this event loop, and the task that asks."""
        contender = self._contender
        if contender is not None and contender.engine.usable:
            task = contender.engine.task_here()
            if task is not None:
                return contender, task
        engine = self._engine()
        task = asyncio.current_task()
        if not self._options.shares_lease:
            return Contender(engine, self._keys), task
        self._contender = contender = engine.contender(self._keys)
        return contender, task

    def _take(
        self, contender: Contender, task: asyncio.Task[Any] | None, timeout: float | None
    ) -> Awaitable[Lease | None]:
        """Acquire; ``None`` if ``timeout`` is 0 and the lock is not free."""
        engine = contender.engine
        held = engine.holders.get(self._keys.key)
        if held is not None and cast(Lease, held)._task is task:
            same = cast(Lease, held)._process_lease.contender.engine is engine
            if self._options.reentrant and same:
                return self._again(cast(Lease, held))
            if timeout != 0:
                raise LockError(
                    self.name,
                    "this task holds the lock already and would wait for itself for ever; "
                    + ("pass reentrant=True, or" if same else "use the same ack=, or")
                    + " hand the lease down",
                )
        return engine.acquire(contender, self._options, Lease, self._source, task, timeout)

    async def _again(self, lease: Lease) -> Lease:
        lease.check()
        lease._depth += 1
        return lease


async def _leave_to_the_parent() -> None:
    """Leave a block in a child process: the lease is the parent's, and so is its end."""
