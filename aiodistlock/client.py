"""What all locks on one Redis share in one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast
from weakref import WeakKeyDictionary, finalize, ref

from aiodistlock import deployment
from aiodistlock.core.clock import ClockWithTimers
from aiodistlock.core.events import Listener
from aiodistlock.core.options import ClientOptions, LockOptions
from aiodistlock.deployment import Source
from aiodistlock.engine.acquire import Engine
from aiodistlock.engine.audience import Audience
from aiodistlock.engine.process_lease import Holder
from aiodistlock.errors import LockError
from aiodistlock.stores.memory_server import MemoryServer
from aiodistlock.stores.urls import client_from_url

if TYPE_CHECKING:
    from redis.asyncio import Redis, RedisCluster

    from aiodistlock.lock import AsyncLock


class LockClient:
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
    :param fence_retention: seconds for which a fence counter outlives the last lease;
        longer than any ttl
    :param quarantine: on several nodes: seconds for which one that came up without its
        data is not counted; the same for all clients, and no ttl may be longer
    :param listeners: called with each :class:`LockEvent` of this client's locks, as
        :func:`add_listener` says, which is for all locks of the process
    :raises TypeError: if ``redis`` is no redis-py asyncio client, nor a sequence of them, or
        a listener cannot be called
    :raises ValueError: naming every option that is wrong; for no node, or one twice
    """

    def __init__(
        self,
        redis: Redis | RedisCluster | Sequence[Redis],
        *,
        label: str | None = None,
        unavailable_after: float = 30.0,
        claim_window: float = 1.0,
        handoff_span: float = 0.05,
        fence_retention: float = 86_400.0,
        quarantine: float = 60.0,
        listeners: Iterable[Listener] = (),
    ) -> None:
        self._setup(
            redis,
            ClientOptions(
                label=label,
                unavailable_after=unavailable_after,
                claim_window=claim_window,
                handoff_span=handoff_span,
                fence_retention=fence_retention,
                quarantine=quarantine,
            ),
        )
        self._audience = Audience(listeners)

    def _setup(
        self, source: Redis | RedisCluster | Sequence[Redis] | MemoryServer, options: ClientOptions
    ) -> None:
        self.options = options
        self._source = deployment.check(source)
        self._owns_source = False
        self._audience = Audience()
        self._engines: dict[str, Engine] = {}
        """One for each durability level in use: what waits stalls its connection."""
        self._holders: dict[bytes, Holder] = {}
        """Theirs together: at whatever level, a task that holds must not wait for itself."""
        self._closed = False

    @classmethod
    def from_url(cls, url: str | Sequence[str], **options: Any) -> Self:
        """
        Build a client that opens and closes its own connections.

        :param url: as redis-py takes it: ``redis://``, ``rediss://`` or ``unix://``; or
            ``redis+sentinel://user:password@host:port,host,…/master?db=0``
            (``sentinel_username`` and ``sentinel_password`` as parameters); or
            ``redis+cluster://user:password@host:port,host,…``; these two also with
            ``rediss+`` for TLS; or several URLs, of independent nodes
        :param options: options of ``LockClient``; all others go to
            ``redis.asyncio.Redis.from_url``, for a cluster to ``RedisCluster``
        :raises ValueError: if the URL or an option is wrong
        """
        ours = {key: options.pop(key) for key in list(options) if key in _CLIENT_OPTIONS}
        if isinstance(url, str):
            client = cls(client_from_url(url, **options), **ours)
        else:
            nodes = [cast("Redis", client_from_url(each, **options)) for each in url]
            client = cls(nodes, **ours)
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
        client._setup(server, ClientOptions())
        return client

    def lock(self, name: str, **options: Any) -> AsyncLock:
        """
        Build a lock on this client; see :class:`AsyncLock` for the options.

        :raises ValueError: naming every option that is wrong
        """
        from aiodistlock.lock import AsyncLock

        return AsyncLock(self, name, **options)

    def add_listener(self, listener: Listener) -> None:
        """
        Have a listener hear of acquisitions of this client's locks that begin from now on.

        :raises TypeError: if it cannot be called
        """
        self._audience.add(listener)

    def remove_listener(self, listener: Listener) -> None:
        """Have a listener hear of no acquisition but those that it has heard begin."""
        self._audience.remove(listener)

    def engine(self, name: str, ack: str = "local") -> Engine:
        """
        Return the engine, started on first use; for the locks of this package.

        :param ack: durability level of the lock
        :raises LockError: after close, after fork, or in another event loop
        """
        engine = self._engines.get(ack)
        if engine is None:
            if self._closed:
                raise LockError(name, "its LockClient is closed; open a new one")
            engine = self._engines[ack] = deployment.start(self._source, self.options, ack)
            engine.audience = self._audience
            engine.holders = self._holders
            # The client may be forgotten without a close; tasks and sockets must not.
            finalize(self, _stop, engine)
        engine.check(name)
        if engine.store.stopped:
            raise LockError(name, "the tasks of its LockClient were cancelled; make a new one")
        return engine

    @property
    def _stopped(self) -> bool:
        """Whether somebody cancelled its tasks, as when a loop is shut down."""
        return any(engine.store.stopped for engine in self._engines.values())

    async def aclose(self) -> None:
        """
        Release what is held, end all waits, and close the connection.

        Bodies that still hold a lease are cancelled as if it were lost.  Twice is
        harmless.  Cancelled here, keys that were not released expire by their ttl.

        :raises LockError: in another event loop than the one that uses the client, and in a
            child process after ``os.fork``
        """
        running = [engine for engine in self._engines.values() if not engine.closed]
        for engine in running:
            engine.check("*")
        self._closed = True
        try:
            for engine in running:
                await engine.aclose()
        finally:
            for engine in running:
                engine.stop()
        if self._owns_source and not isinstance(self._source, MemoryServer):
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


def check_lock(source: object, lock_options: LockOptions) -> Source | LockClient:
    """
    Check what a user passes as the place of a lock, and that the options fit it.

    :raises TypeError: saying what is expected, if it cannot be used
    :raises ValueError: for no node, or one twice; if options do not go together
    """
    if isinstance(source, LockClient):
        place, options = source._source, source.options
    else:
        place, options = deployment.check(source), _DEFAULTS
    options.check_lock(lock_options, quorum=isinstance(place, tuple))
    deployment.check_ack(place, lock_options.ack)
    return source if isinstance(source, LockClient) else place


_DEFAULTS = ClientOptions()
_CLIENT_OPTIONS = frozenset((*ClientOptions.__slots__, "listeners"))


def _stop(engine: Engine) -> None:
    """Stop an engine whose client was garbage-collected, from whatever thread."""
    if not engine.loop.is_closed() and not engine.forked:
        engine.loop.call_soon_threadsafe(engine.stop)


# Keyed weakly by the user's client object, so that it takes its LockClient along; the
# LockClient kept here must not hold that object, so it holds a stand-in.
# One client object has the group of no others; several are keyed by the first of them.
_Group = tuple[Any, ...]
_shared: WeakKeyDictionary[Any, dict[_Group, dict[asyncio.AbstractEventLoop, LockClient]]] = (
    WeakKeyDictionary()
)


def shared_client(source: Source) -> LockClient:
    """Return the one LockClient of a client object, or of several, in the running loop."""
    loop = asyncio.get_running_loop()
    several = isinstance(source, tuple)
    first, *others = source if isinstance(source, tuple) else (source,)
    groups = _shared.setdefault(first, {})
    clients = groups.setdefault((several, *map(ref, others)), {})
    client = clients.get(loop)
    if client is None or client._closed or client._stopped:
        for closed in [each for each in clients if each.is_closed()]:
            del clients[closed]
        for gone in [each for each in groups if any(other() is None for other in each[1:])]:
            del groups[gone]
        client = clients[loop] = LockClient(deployment.stand_in(source))  # type: ignore[arg-type]  # it has the settings
    return client
