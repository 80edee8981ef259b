"""Read/write locks: readers together, or one writer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Literal, cast

from aiodistlock.core.backoff import Backoff
from aiodistlock.core.durations import Duration
from aiodistlock.core.escaping import quoted
from aiodistlock.core.keys import LockKeys
from aiodistlock.core.options import Kind, LockOptions, checked_timeout
from aiodistlock.core.validation import refuse
from aiodistlock.deployments.source import Source, is_quorum
from aiodistlock.engines import Engines
from aiodistlock.errors import LeaseLost, LockError, StoreUnavailable
from aiodistlock.lease import Lease
from aiodistlock.leases.process_lease import ProcessLease
from aiodistlock.leases.shared_lease import Share
from aiodistlock.lock import AsyncLock
from aiodistlock.lock_like import _UNSET, Hold, LockLike, Timeout
from aiodistlock.protocol.answers import Failed, NotOurs
from aiodistlock.waiting.acquire import acquire, begin_story
from aiodistlock.waiting.contender import Contender
from aiodistlock.waiting.engine import Engine
from aiodistlock.waiting.reading import UPGRADEABLE, UpgradeableContender
from aiodistlock.waiting.upgrading import Upgrade, downgrade

if TYPE_CHECKING:
    from redis.asyncio import Redis, RedisCluster

Mode = Literal["read", "upgradeable", "write"]


class ReadWriteLease(Lease):
    """
    One period of reading or writing, from the grant to the release or the loss.

    Leases come from :class:`ReadWriteLock`.  Until its :attr:`validity` is over nobody writes
    beside a reader, and nobody does anything beside a writer, as long as Redis keeps its data and
    clocks run evenly.

    :ivar int fencing_token: of a writer: grows with every writer of the name; of a reader: that
        of the last writer, so the version that it reads
    """

    __slots__ = ("_upgrade",)

    _upgrade: Upgrade | None

    def __init__(
        self,
        client: Any,
        process_lease: ProcessLease,
        fence: int,
        task: asyncio.Task[Any] | None,
        owner: object,
    ) -> None:
        super().__init__(client, process_lease, fence, task, owner)
        self._upgrade = None

    def __repr__(self) -> str:
        name, state = quoted(self.name), self._describe()
        return f"<ReadWriteLease on {name}, {self.mode}, version {self.fencing_token}, {state}>"

    @property
    def mode(self) -> Mode:
        """What one may do at this instant: ``"read"``, ``"upgradeable"`` or ``"write"``."""
        if not isinstance(self._process_lease, Share):
            return "write"
        return "upgradeable" if self._process_lease.token.endswith(UPGRADEABLE) else "read"

    async def extend(self, ttl: Duration) -> None:
        """
        Set the remaining time to ``ttl`` seconds, or a ``timedelta``, from now.

        As :meth:`Lease.extend`; a lease that several tasks of this process read by is only ever
        made longer.

        :raises ValueError: if ``ttl`` is no duration from 0.05 s
        :raises LeaseLost: if the lease is lost, or Redis says that it is not ours
        :raises NotHeld: if it was released
        :raises StoreUnavailable: if Redis did not answer while the lease was valid
        """
        lease, length = self._process_lease, self._client.options.checked_ttl(ttl)
        if isinstance(lease, Share) and len(lease.shared.shares) > 1:
            length = max(length, lease.options.ttl, self.validity)
        await super().extend(length)

    async def upgrade(self, timeout: Duration | None = None) -> None:
        """
        Become the writer: wait for the other readers to leave, and let nobody write before.

        Only for who reads by :meth:`ReadWriteLock.upgradeable`.  It reads on while it waits;
        nobody else begins to.  Then ``fencing_token`` is a writer's.  Timed out or cancelled here,
        it reads on, or is the writer already: ``mode`` says which.

        :param timeout: seconds to wait, ``None`` without end
        :raises ValueError: if ``timeout`` is no number of seconds from 0
        :raises AcquireTimeout: if others read for longer than ``timeout``
        :raises LeaseLost: if the lease is lost
        :raises NotHeld: if it was released
        :raises LockError: at once, for a reader that is not upgradeable (two of them would wait
            for each other), and for who writes already
        :raises StoreUnavailable: if Redis was unreachable, or refused, for longer than the
            client's ``unavailable_after``
        """
        within = checked_timeout(timeout)
        self.check()
        client, share = self._client, self._process_lease
        client.check(self.name)
        if self.mode == "read":
            raise LockError(
                self.name,
                "a plain reader cannot become the writer, as two of them would wait for each "
                "other for ever: acquire it by upgradeable(), or release it and write()",
            )
        if self.mode == "write" or self._upgrade is not None:
            raise LockError(self.name, "this lease is the writer's already, or is about to be")
        assert isinstance(share, Share), "it reads"
        self._upgrade = upgrade = Upgrade(client, share, self._become)
        task, options = asyncio.current_task(), replace(share.options, kind="write")
        try:
            holder = await acquire(upgrade, options, _no_holder, self._owner, task, within)
        finally:
            self._upgrade = None
        if holder is None:
            raise upgrade.timed_out(0.0)

    def _become(self, lease: ProcessLease) -> Lease:
        """Go on by a writer's lease."""
        share = cast("Share", self._process_lease)
        self._client.forget_holder(share)
        cast("UpgradeableContender", share.possessor).surrender(share)
        self._hold_by(lease)
        return self

    def _hold_by(self, lease: ProcessLease) -> None:
        self._process_lease = lease
        self.fencing_token = lease.fence
        self._client.holders[lease.held_as] = lease

    async def downgrade(self) -> None:
        """
        Go on as a reader, of what one has written; readers that wait come in.

        Nobody writes between.  Who was upgradeable is so again.  ``fencing_token`` stays.
        Cancelled here, the request still takes effect.

        :raises LeaseLost: if the lease is lost, or Redis says that it was not ours any more
        :raises NotHeld: if it was released
        :raises LockError: for who does not write
        :raises StoreUnavailable: if Redis refused
        """
        self.check()
        client, lease = self._client, self._process_lease
        client.check(self.name)
        if self.mode != "write":
            raise LockError(self.name, "only a writer can go on as a reader; this lease reads")
        lease.holder = None
        client.forget_holder(lease)
        share, call = downgrade(client, lease, replace(lease.options, kind="read"), self._task)
        version = self.fencing_token
        if lease.story is not None:
            # To write was one acquisition, as behind an upgrade, and to read is another.
            lease.story.released()
            share.story = begin_story(client, self.name, None, "read")
            share.story.acquired(version)
        share.hand_to(self)
        self._hold_by(share)
        self.fencing_token = version
        reply = await call
        self.check()
        if isinstance(reply, NotOurs):
            raise LeaseLost(self.name, reply.reason, self.fencing_token)
        if isinstance(reply, Failed) and not reply.transient:
            raise StoreUnavailable(self.name, reply.causes)

    def _lose(self, reason: str) -> None:
        upgrade = self._upgrade
        super()._lose(reason)
        if upgrade is not None:
            upgrade.lost(reason)


def _no_holder(*_of_lease: object) -> Lease:
    raise AssertionError("an upgrade goes on with the lease that there is")


class ReadWriteHold(Hold):
    """One ``async with`` block on a side of a read/write lock; see :class:`Hold`."""

    __slots__ = ()

    def __aenter__(self) -> CoroutineType[Any, Any, ReadWriteLease]:
        return cast("CoroutineType[Any, Any, ReadWriteLease]", super().__aenter__())


class Side(LockLike):
    """
    Reading, or writing: what a :class:`ReadWriteLock` has tasks hold.

    As :class:`AsyncLock`, it is held for an ``async with`` block, or acquired and released, and
    any number of tasks may share it.
    """

    __slots__ = ("_mode",)

    def __init__(
        self, source: Source | Engines, keys: LockKeys, options: LockOptions, mode: Mode
    ) -> None:
        kind: Kind = "write" if mode == "write" else "read"
        super().__init__(source, keys, replace(options, kind=kind))
        self._mode = mode

    def __repr__(self) -> str:
        return f"<Side of {quoted(self.name)}: {self._mode}>"

    def hold(self, timeout: Timeout = _UNSET) -> ReadWriteHold:
        """
        Hold it for the length of an ``async with`` block.

        :param timeout: seconds to wait, ``None`` without end; default: the lock's own
        :raises ValueError: if ``timeout`` is no number of seconds from 0

        Entering and leaving the block raise what :class:`Hold` says.
        """
        return ReadWriteHold(self, self._timeout(timeout))

    def __aenter__(self) -> CoroutineType[Any, Any, ReadWriteLease]:
        return cast("CoroutineType[Any, Any, ReadWriteLease]", super().__aenter__())

    async def acquire(self, timeout: Timeout = _UNSET) -> ReadWriteLease:
        """
        Acquire it; the caller releases the lease.

        As :meth:`AsyncLock.acquire`, also in what it raises and what a cancellation leaves.

        :param timeout: seconds to wait, ``None`` without end; default: the lock's own
        :raises ValueError: if ``timeout`` is no number of seconds from 0
        :raises AcquireTimeout: if it was not free within ``timeout``
        :raises StoreUnavailable: if Redis was unreachable, or refused, for longer than
            the client's ``unavailable_after``
        :raises LockError: if this task would wait for itself, or the client is closed, or belongs
            to another event loop or process
        """
        return cast("ReadWriteLease", await super().acquire(timeout))

    async def try_acquire(self) -> ReadWriteLease | None:
        """
        Acquire it if that takes no wait for anybody; ``None`` if it does.

        Cancelled here, nothing stays behind.

        :raises StoreUnavailable: if Redis was unreachable, or refused, for longer than
            the client's ``unavailable_after``
        :raises LockError: if the client is closed, or belongs to another event loop or process
        """
        return cast("ReadWriteLease | None", await super().try_acquire())

    def _contend(self) -> tuple[Contender, asyncio.Task[Any] | None]:
        engine, task = self._engine(), asyncio.current_task()
        contender = self._contender
        if contender is None or contender.client is not engine:
            contender = self._contender_of(engine)
            if self._mode != "upgradeable":
                self._contender = contender
        return contender, task

    def _contender_of(self, engine: Engine) -> Contender:
        if self._mode == "read":
            return engine.reader(self._keys)
        if self._mode == "write":
            return engine.writer(self._keys)
        return UpgradeableContender(engine, self._keys)

    def _take(
        self, contender: Contender, task: asyncio.Task[Any] | None, timeout: float | None
    ) -> Awaitable[Lease | None]:
        if timeout != 0:
            self._check_task(contender, task)
        return acquire(contender, self._options, ReadWriteLease, self._source, task, timeout)

    def _check_task(self, contender: Contender, task: asyncio.Task[Any] | None) -> None:
        """Refuse who would wait for itself."""
        client, key = contender.client, self._keys.key
        writes = client.holders.get(key)
        holder = None if writes is None or writes.holder is None else writes.holder()
        if holder is not None and cast("Lease", holder)._task is task:
            raise LockError(
                self.name,
                "this task writes already and would wait for itself for ever: hand the lease "
                "down, or downgrade() it",
            )
        reads = client.reading.get((key, task))
        if not reads or (self._mode == "read" and not reads[-1].token.endswith(UPGRADEABLE)):
            return
        raise LockError(
            self.name,
            "this task reads already and would wait for itself for ever: hand the lease down, or "
            "read by upgradeable() and upgrade() it",
        )


class ReadWriteLock:
    """
    Readers together, or one writer, across processes.

    First come, first served: who wants to read behind a writer that waits comes after it, and all
    readers that wait behind each other come together, so neither starves.  Readers of one process
    share one lease, and others may join them for ``handoff_span`` at most while a writer waits.
    Whoever holds an :class:`AsyncLock`, or redis-py's lock, of the same name is a writer, too.

    At no instant a writer has a valid lease beside anybody else, as long as Redis keeps its data
    and clocks run evenly over one ttl; beyond that ``lease.fencing_token`` is what protects.  A
    reader that dies holds writers up for its ttl, and nobody else's lease ends with it.

    ::

        rw = locks.rwlock("doc:7")
        async with rw.read() as lease:  # beside other readers
            text = await load()
        async with rw.write() as lease:
            await save(text, fence=lease.fencing_token)

    :param redis: where it is held: a :class:`LockClient`, or what :class:`AsyncLock` takes; no
        quorum
    :param name: what it protects; the key is ``namespace + name``
    :param ttl: length of a lease in seconds
    :param timeout: seconds to wait, ``None`` without end, 0 not at all
    :param on_lost: ``"cancel"`` the body of ``async with`` when the lease is lost, or only
        ``"signal"`` it
    :param local_handoffs: how often the writers of one process hand over in memory, as for
        :class:`AsyncLock`
    :param backoff: pauses between requests that find it held, or Redis down
    :param namespace: prefix of the keys in Redis
    :raises TypeError: if ``redis`` is none of these
    :raises ValueError: naming every option that is wrong; for a quorum
    """

    __slots__ = ("_read", "_upgradeable", "_write")

    def __init__(
        self,
        redis: Redis | RedisCluster | Sequence[Redis] | Engines,
        name: str,
        *,
        ttl: Duration = 10.0,
        timeout: Duration | None = None,
        on_lost: Literal["cancel", "signal"] = "cancel",
        local_handoffs: int = 128,
        backoff: Backoff | None = None,
        namespace: str = "lock:",
    ) -> None:
        lock = AsyncLock(
            redis,
            name,
            ttl=ttl,
            timeout=timeout,
            on_lost=on_lost,
            local_handoffs=local_handoffs,
            backoff=backoff,
            namespace=namespace,
        )
        refuse([_place_problem(lock._source)])
        of_lock = lock._source, lock._keys, lock._options
        self._read = Side(*of_lock, "read")
        self._write = Side(*of_lock, "write")
        self._upgradeable = Side(*of_lock, "upgradeable")

    def __repr__(self) -> str:
        return f"<ReadWriteLock {quoted(self.name)}>"

    @property
    def name(self) -> str:
        """What the lock protects."""
        return self._read.name

    def read(self) -> Side:
        """Return what to hold in order to read, beside other readers."""
        return self._read

    def write(self) -> Side:
        """Return what to hold in order to write, beside nobody."""
        return self._write

    def upgradeable(self) -> Side:
        """Return what to hold in order to read, and perhaps to write then; one at a time."""
        return self._upgradeable


def _place_problem(source: Source | Engines) -> str | None:
    if not is_quorum(source._source if isinstance(source, Engines) else source):
        return None
    return (
        "a read/write lock needs one Redis, a Cluster or Sentinels, not a quorum: no single node "
        "knows who reads, so a writer could not tell when the last reader has left"
    )
