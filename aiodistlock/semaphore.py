"""Semaphores: so many permits on a name, each a lease."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, replace
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Literal, cast

from aiodistlock.core.backoff import Backoff
from aiodistlock.core.durations import Duration
from aiodistlock.core.escaping import quoted
from aiodistlock.core.keys import LockKeys
from aiodistlock.core.options import checked_timeout
from aiodistlock.core.permit_options import PermitOptions
from aiodistlock.core.validation import check_all, refuse
from aiodistlock.deployments.source import is_quorum
from aiodistlock.engines import Engines
from aiodistlock.lease import Lease
from aiodistlock.leases.permit_lease import PermitLease
from aiodistlock.lock_like import _UNSET, Hold, LockLike, Timeout
from aiodistlock.protocol.await_answer import ASKED_WITHIN, answer
from aiodistlock.protocol.permits import PermitStore
from aiodistlock.waiting.acquire import acquire
from aiodistlock.waiting.contender import Contender

_BACKOFF = Backoff()


class SemaphoreLease(Lease):
    """
    One period of possession of permits, from grant to release or loss.

    A :class:`Lease` like any other; its fencing token grows with every lease of the same slot.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        name, slots = quoted(self.name), ", ".join(map(str, self.slots))
        return f"<SemaphoreLease on {name}, slot {slots}, {self._describe()}>"

    @property
    def slots(self) -> tuple[int, ...]:
        """
        The numbers of the permits, the lowest first: from 0, those that were free and lowest.

        Nobody else has one of them as long as the lease is valid.
        """
        return cast("PermitLease", self._process_lease).slots

    @property
    def slot(self) -> int:
        """The lowest of :attr:`slots`; below the limit by which it was acquired."""
        return self.slots[0]


class SemaphoreHold(Hold):
    """One ``async with`` block on a semaphore; as :class:`Hold`."""

    __slots__ = ()

    if TYPE_CHECKING:

        async def __aenter__(self) -> SemaphoreLease: ...


@dataclass(frozen=True, slots=True)
class PermitInfo:
    """
    A lease of permits, as Redis has it.

    :ivar holder: token of the holder
    :ivar slots: the numbers of its permits
    :ivar fencing_token: with which it began; local hand-offs may be ahead of it
    :ivar ttl: seconds left of it
    """

    holder: str
    slots: tuple[int, ...]
    fencing_token: int
    ttl: float


@dataclass(frozen=True, slots=True)
class SemaphoreInfo:
    """
    What Redis has about a semaphore at one instant; it may change in the next.

    :ivar leases: those that hold permits, the one that ends first before the others
    :ivar waiters: tokens of what is waited for, in order: for each process as many as its limit,
        at most
    """

    leases: tuple[PermitInfo, ...]
    waiters: tuple[str, ...]

    @property
    def held(self) -> int:
        """How many permits are held."""
        return sum(len(lease.slots) for lease in self.leases)


class Semaphore(LockLike):
    """
    Permits for so many at a time; :meth:`LockClient.semaphore` builds it.

    ::

        gpus = locks.semaphore("gpu", 4)

        async with gpus as lease:  # waits; the body is cancelled if the lease is lost
            await train(device=lease.slot)  # 0 to 3, the lowest that was free

        async with gpus.hold(permits=2, timeout=5.0) as lease:
            await train(devices=lease.slots)

    Each hold is a lease of its own, renewed while it is held: permits of a crashed holder are back
    when its ``ttl`` is over, by the server's clock, while others keep theirs.  Waiters are served
    strictly first come, first served across processes, those that want several permits, too: until
    it fits, one has all behind it wait.  The tasks of a process hand permits over in memory for at
    most ``handoff_span``.

    More than the limit are never held, as long as Redis keeps its data and clocks run evenly over
    one ttl.  Each lease is judged by the limit of who asks for it, so that may differ between
    processes while it is changed: none is revoked, and who goes by the lower one waits until there
    is room below it.

    A lock of the same name (and namespace) is refused as long as permits are held, and the other
    way round.

    :param client: where, not on a quorum: of three users and two permits each node may have
        another two
    :param name: what is limited
    :param limit: how many permits there are, 1 to 1000
    :param ttl: length of a lease in seconds, at least 0.05: after how long the permits of a crashed
        holder are back, and how long Redis may be silent before a live one gives up
    :param timeout: seconds to wait, ``None`` without end, 0 not at all
    :param max_hold: seconds after which a lease ends although it could be renewed; ``None`` for no
        such bound
    :param on_lost: ``"cancel"`` the body of ``async with`` when the lease is lost, or only
        ``"signal"`` it (:meth:`Lease.wait_lost`, :attr:`Lease.is_held`)
    :param backoff: pauses between requests that find no permit free, or Redis down
    :param namespace: prefix of the key in Redis
    :raises ValueError: naming every option that is wrong; on a quorum
    """

    __slots__ = ()

    _options: PermitOptions

    def __init__(
        self,
        client: Engines,
        name: str,
        limit: int,
        *,
        ttl: Duration = 10.0,
        timeout: Duration | None = None,
        max_hold: Duration | None = None,
        on_lost: Literal["cancel", "signal"] = "cancel",
        backoff: Backoff | None = None,
        namespace: str = "lock:",
    ) -> None:
        options: dict[str, Any] = {
            "limit": limit,
            "ttl": ttl,
            "timeout": timeout,
            "max_hold": max_hold,
            "on_lost": on_lost,
            "backoff": _BACKOFF if backoff is None else backoff,
            "namespace": namespace,
            "claim_window": client.options.claim_window,
        }
        check_all(
            lambda: LockKeys(name, namespace),
            lambda: PermitOptions(**options),
            lambda: refuse([_ON_QUORUM if is_quorum(client._source) else None]),
        )
        super().__init__(client, LockKeys(name, namespace), PermitOptions(**options))

    def __repr__(self) -> str:
        place = cast("Engines", self._source)._place
        return f"<Semaphore {quoted(self.name)} of {self.limit} on {place}>"

    @property
    def limit(self) -> int:
        """How many permits there are, for who asks by this semaphore."""
        return self._options.limit

    if TYPE_CHECKING:

        def __aenter__(self) -> CoroutineType[Any, Any, SemaphoreLease]: ...

    def hold(self, timeout: Timeout = _UNSET, *, permits: int = 1) -> SemaphoreHold:
        """
        Hold permits for the length of an ``async with`` block.

        :param timeout: seconds to wait, ``None`` without end; default: the semaphore's own
        :param permits: how many; all of them or none
        :raises ValueError: if ``timeout`` is no number of seconds from 0, or there are not so many
            permits

        Entering and leaving the block raise what :class:`Hold` says.
        """
        return SemaphoreHold(self._of(permits), self._timeout(timeout))

    async def acquire(self, timeout: Timeout = _UNSET, *, permits: int = 1) -> SemaphoreLease:
        """
        Acquire permits; the caller releases the lease.

        As :meth:`AsyncLock.acquire`, but that a task may hold several leases.  One that waits for
        what it has itself waits for ever; if it has that in an ``async with`` block it is told.

        :param timeout: seconds to wait, ``None`` without end; default: the semaphore's own
        :param permits: how many; all of them or none
        :raises ValueError: if ``timeout`` is no number of seconds from 0, or there are not so many
            permits
        :raises AcquireTimeout: if they were not free within ``timeout``
        :raises StoreUnavailable: if Redis was unreachable, or refused, for longer than the client's
            ``unavailable_after``
        :raises LockError: if the client is closed, or belongs to another event loop or process; or
            where tasks here wait for each other for ever, and this one has no timeout
        """
        of = self._of(permits)
        return cast("SemaphoreLease", await LockLike.acquire(of, timeout))

    async def try_acquire(self, *, permits: int = 1) -> SemaphoreLease | None:
        """
        Acquire permits if they are free now, and nobody waits; ``None`` if not.

        One attempt; never waits for a holder.  Cancelled here, nothing stays behind.

        :param permits: how many; all of them or none
        :raises ValueError: if there are not so many permits
        :raises StoreUnavailable: if Redis was unreachable, or refused, for longer than the client's
            ``unavailable_after``
        :raises LockError: if the client is closed, or belongs to another event loop or process
        """
        return cast("SemaphoreLease | None", await LockLike.try_acquire(self._of(permits)))

    async def inspect(self, timeout: Duration | None = ASKED_WITHIN) -> SemaphoreInfo:
        """
        Tell who holds permits and who waits; changes nothing.

        :param timeout: seconds to wait for the answer of Redis; ``None``: as long as the client's
            ``unavailable_after``
        :raises ValueError: if ``timeout`` is no number of seconds from 0
        :raises StoreUnavailable: if Redis did not answer in time, or refused
        """
        within = checked_timeout(timeout)
        store = cast("PermitStore", self._engine().store)
        reply = await answer(store, store.inspect_permits(self._keys), self.name, within)
        leases = (
            PermitInfo(each.token, each.slots, each.fence, each.remaining) for each in reply.leases
        )
        return SemaphoreInfo(tuple(leases), tuple(each.token for each in reply.waiters))

    def _of(self, permits: int) -> Semaphore:
        """Return the semaphore by which so many permits are acquired together."""
        if permits == self._options.permits and type(permits) is int:
            return self
        options = replace(self._options, permits=permits)
        other = object.__new__(Semaphore)
        LockLike.__init__(other, self._source, self._keys, options)
        return other

    def _contend(self) -> tuple[Contender, asyncio.Task[Any] | None]:
        contender = self._contender
        if contender is not None:
            task = contender.client.task_here()
            if task is not None:
                return contender, task
        engine = self._engine()
        self._contender = contender = engine.permit_contender(self._keys, self.limit)
        return contender, asyncio.current_task()

    def _take(
        self, contender: Contender, task: asyncio.Task[Any] | None, timeout: float | None
    ) -> Awaitable[Lease | None]:
        return acquire(contender, self._options, SemaphoreLease, self._source, task, timeout)


_ON_QUORUM = (
    "a semaphore needs one Redis, Sentinel or a Cluster, not a quorum: of three users and two "
    "permits, on three nodes, each node may give its two to another two of them, and all three "
    "have a majority"
)
