"""The client: what users see of what all locks on one Redis share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypedDict, Unpack, cast

from aiodistlock.core.clock import ClockWithTimers
from aiodistlock.core.durations import Duration
from aiodistlock.core.keywords import (
    ElectionKeywords,
    LockKeywords,
    OnceKeywords,
    ReadWriteKeywords,
    SemaphoreKeywords,
)
from aiodistlock.core.options import ClientOptions
from aiodistlock.core.validation import check_all
from aiodistlock.deployments import source as deployment
from aiodistlock.deployments.memory.server import MemoryServer
from aiodistlock.deployments.url_keywords import ConnectionKeywords
from aiodistlock.deployments.urls import client_from_url
from aiodistlock.election import Election
from aiodistlock.engines import Engines
from aiodistlock.events.events import Listener
from aiodistlock.events.listeners import Listeners
from aiodistlock.lock import AsyncLock
from aiodistlock.once import Once
from aiodistlock.readwrite import ReadWriteLock
from aiodistlock.semaphore import Semaphore
from aiodistlock.together import Together, locks_together
from aiodistlock.waiting.lingering_leases import LingerCounts
from aiodistlock.waiting.status import ClientHealth, connected, health_of, waiting

if TYPE_CHECKING:
    from redis.asyncio import Redis, RedisCluster


class ClientKeywords(TypedDict, total=False):
    """Options of a client."""

    label: str | None
    unavailable_after: Duration
    claim_window: Duration
    handoff_span: Duration
    quarantine: Duration
    listeners: Iterable[Listener]


class UrlKeywords(ClientKeywords, ConnectionKeywords, total=False):
    """Options of a client by URL."""


class LockClient(Engines):
    """
    Everything that locks on one Redis share: connection, subscription, watchdog.

    Use it as an async context manager, or call :meth:`aclose`: that releases what it
    holds, ends the waits with a :class:`LockError`, and closes its connection.  It
    belongs to the event loop that first uses it.

    :param redis: a ``redis.asyncio.Redis`` or ``RedisCluster``; only its settings are
        used: the client opens one connection of its own by them (two under RESP2, once
        somebody waits), for a cluster one to each primary that it needs.  Or a sequence
        of ``Redis``, independent of each other: a majority decides (Redlock)
    :param label: opens every token, for people who look at Redis; default the host name
    :param unavailable_after: seconds for which an acquire goes on trying while Redis
        is unreachable or refuses to work
    :param claim_window: ttl in seconds of a lease that is handed over by message, until
        its new holder claims it; what a frozen waiter costs the others
    :param handoff_span: seconds since a grant for which this process may hand the lock
        over among its own tasks while another process waits
    :param quarantine: on several nodes: seconds for which one that came up without its
        data is not counted; the same for all clients, and no ttl may be longer
    :param listeners: called with each :class:`LockEvent` of this client's locks, as
        :func:`add_listener` says, which is for all locks of the process
    :raises TypeError: if ``redis`` is no redis-py asyncio client, nor a sequence of them, or
        redis-py does not know an option of its connections; or a listener cannot be called
    :raises ValueError: naming every option that is wrong; for no node, or one twice
    """

    def __init__(
        self,
        redis: Redis | RedisCluster | Sequence[Redis],
        *,
        label: str | None = None,
        unavailable_after: Duration = 30.0,
        claim_window: Duration = 1.0,
        handoff_span: Duration = 0.05,
        quarantine: Duration = 60.0,
        listeners: Iterable[Listener] = (),
    ) -> None:
        options: dict[str, Any] = {
            "label": label,
            "unavailable_after": unavailable_after,
            "claim_window": claim_window,
            "handoff_span": handoff_span,
            "quarantine": quarantine,
        }
        try:
            super().__init__(redis, ClientOptions(**options))
        except ValueError:
            check_all(lambda: deployment.check(redis), lambda: ClientOptions(**options))
            raise
        self._owns_source = False
        self._listeners = Listeners(listeners)

    @classmethod
    def from_url(cls, url: str | Sequence[str], **options: Unpack[UrlKeywords]) -> Self:
        """
        Build a client that opens and closes its own connections.

        :param url: as redis-py takes it: ``redis://``, ``rediss://`` or ``unix://``; or
            ``redis+sentinel://user:password@host:port,host,…/master?db=0``
            (``sentinel_username`` and ``sentinel_password`` as parameters); or
            ``redis+cluster://user:password@host:port,host,…``; these two also with
            ``rediss+`` for TLS; ``valkey`` and ``valkeys`` may stand for ``redis`` and
            ``rediss``; or several URLs, of independent nodes
        :param options: options of ``LockClient``; all others go to
            ``redis.asyncio.Redis.from_url``, for a cluster to ``RedisCluster``
        :raises ValueError: if the URL or an option is wrong
        :raises TypeError: if neither ``LockClient`` nor redis-py knows an option
        """
        theirs: dict[str, Any] = dict(options)
        ours = {key: theirs.pop(key) for key in list(theirs) if key in _CLIENT_OPTIONS}
        urls = (url,) if isinstance(url, str) else tuple(url)
        builds = [partial(client_from_url, each, **theirs) for each in urls]
        try:
            redis = [build() for build in builds]
        except ValueError:
            ours.pop("listeners", None)
            check_all(*builds, lambda: ClientOptions(**ours))
            raise
        client = cls(redis[0] if isinstance(url, str) else cast("list[Redis]", redis), **ours)
        client._owns_source = True
        return client

    @classmethod
    def in_memory(
        cls, share: LockClient | None = None, *, clock: ClockWithTimers | None = None
    ) -> Self:
        """
        Build a client whose locks live in this process, for tests without Redis.

        :param share: another in-memory client, to contend with it as a second process
            would; default: a store of its own
        :param clock: an :class:`aiodistlock.testing.ManualClock`: time passes only when the
            test turns it; default: real time, or that of ``share``
        :raises TypeError: if ``share`` is not in memory
        :raises ValueError: if ``clock`` is another one than that of ``share``
        """
        server = MemoryServer(clock) if share is None else share._source
        if not isinstance(server, MemoryServer):
            raise TypeError("share must be a client made by LockClient.in_memory()")
        if clock is not None and clock is not server.clock:
            raise ValueError("share goes by another clock: pass clock= to the first client only")
        client = cls.__new__(cls)
        Engines.__init__(client, server, ClientOptions())
        client._owns_source = False
        return client

    @property
    def linger_counts(self) -> LingerCounts:
        """How often leases that lingered were used again, used no more, or recalled."""
        kept = [engine.lingering for engine in self._engines.values()]
        return LingerCounts(
            sum(each.hits for each in kept),
            sum(each.misses for each in kept),
            sum(each.recalls for each in kept),
        )

    def __repr__(self) -> str:
        if self._closed:
            return f"<LockClient on {self._place}, closed>"
        engines = list(self._engines.values())
        use = f"{len(self._holders)} held, {sum(map(waiting, engines))} waiting"
        use = f"{connected(*engines)}, {use}" if engines else "not used yet"
        return f"<LockClient on {self._place}, {use}>"

    def lock(self, name: str, **options: Unpack[LockKeywords]) -> AsyncLock:
        """
        Build a lock on this client; see :class:`AsyncLock` for the options.

        :raises ValueError: naming every option that is wrong
        """
        return AsyncLock(self, name, **options)

    def once(self, name: str, **options: Unpack[OnceKeywords]) -> Once:
        """
        Build a job that somebody in the fleet does once a window; see :class:`Once`.

        :raises ValueError: naming every option that is wrong; on a quorum
        """
        return Once(self, name, **options)

    def semaphore(self, name: str, limit: int, **options: Unpack[SemaphoreKeywords]) -> Semaphore:
        """
        Build a semaphore on this client; see :class:`Semaphore` for the options.

        :param limit: how many permits there are
        :raises ValueError: naming every option that is wrong; on a quorum
        """
        return Semaphore(self, name, limit, **options)

    def together(self, *names: str | AsyncLock, **options: Unpack[LockKeywords]) -> Together:
        """
        Hold several locks for the length of an ``async with`` block: all of them, or none.

        ::

            async with locks.together("wallet:1", "wallet:2", timeout=5.0) as (source, target):
                ...

        They are taken in one order everywhere, so those who take theirs so cannot dead-lock;
        :class:`Together` says how, what entering and leaving raise, and what it does not cover.

        :param names: names, or locks of this client that have the same options (their namespaces
            may differ)
        :param options: options of :class:`AsyncLock`, for each of the names; ``timeout`` in
            seconds is one for all together
        :raises ValueError: naming every name and option that is wrong; for no name, a name twice,
            a lock of another client, or with other options
        """
        return Together(*locks_together(self, names, dict(options)))

    def election(
        self, name: str, *, value: str = "", **options: Unpack[ElectionKeywords]
    ) -> Election:
        """
        Build an election on this client; see :class:`Election` for the options.

        :param value: what this candidate proclaims when it leads
        :raises ValueError: naming every option that is wrong; on a quorum
        """
        return Election(self, name, value=value, **options)

    def rwlock(self, name: str, **options: Unpack[ReadWriteKeywords]) -> ReadWriteLock:
        """
        Build a read/write lock on this client; see :class:`ReadWriteLock` for the options.

        :raises ValueError: naming every option that is wrong; on a quorum
        """
        return ReadWriteLock(self, name, **options)

    def add_listener(self, listener: Listener) -> None:
        """
        Have a listener hear of acquisitions of this client's locks that begin from now on.

        :raises TypeError: if it cannot be called
        """
        self._listeners.add(listener)

    def remove_listener(self, listener: Listener) -> None:
        """Have a listener hear of no acquisition but those that it has heard begin."""
        self._listeners.remove(listener)

    def health(self) -> ClientHealth:
        """
        Return how this client fares at this instant; no I/O, and from whatever thread.

        What to make of it is for you to say: an endpoint that an orchestrator asks had better
        run in a thread of its own, or it does not answer while the event loop hangs.
        """
        return health_of(list(self._engines.values()), len(self._holders))

    async def aclose(self) -> None:
        """
        Release what is held, end all waits, and close the connection.

        Bodies that still hold a lease are cancelled as if it were lost.  Twice is
        harmless.  Cancelled here, keys that were not released expire by their ttl.

        :raises LockError: in another event loop than the one that uses the client, and in a
            child process after ``os.fork``
        """
        await super().aclose()
        # Not closed is what is thrown away with its loop.
        if self._closed and self._owns_source and not isinstance(self._source, MemoryServer):
            sources = self._source if isinstance(self._source, tuple) else (self._source,)
            for redis in sources:
                await redis.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()


_CLIENT_OPTIONS = frozenset((*ClientOptions.__slots__, "listeners"))
