"""What all locks on one Redis share in one event loop: an engine for each durability level."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, finalize, ref

from aiodistlock.core.background import end_tasks_of, is_thrown_away
from aiodistlock.core.options import ClientOptions
from aiodistlock.core.thread_lock import thread_lock
from aiodistlock.core.validation import refuse
from aiodistlock.deployments import source as deployment
from aiodistlock.deployments.memory.server import MemoryServer
from aiodistlock.deployments.source import Source, place_of
from aiodistlock.errors import LockError
from aiodistlock.events.listeners import Listeners
from aiodistlock.leases.process_lease import ProcessLease
from aiodistlock.waiting.engine import Engine

if TYPE_CHECKING:
    from redis.asyncio import Redis, RedisCluster


class Engines:
    """
    What locks on one Redis share: connection, subscription, watchdog, and who holds what.

    A :class:`~aiodistlock.LockClient` is one; locks on a client object of the user's own
    share what :func:`shared_engines` returns.

    :param source: what :func:`check_place` takes, or a stand-in for it
    """

    def __init__(
        self, source: Redis | RedisCluster | Sequence[Redis] | MemoryServer, options: ClientOptions
    ) -> None:
        self.options = options
        self._source = deployment.check(source)
        deployment.try_settings(self._source)
        self._listeners = Listeners()
        self._engines: dict[str, Engine] = {}
        """One for each durability level in use: what waits stalls its connection."""
        self._holders: dict[bytes, ProcessLease] = {}
        """Theirs together: at whatever level, a task that holds must not wait for itself."""
        self._closed = False

    @property
    def _place(self) -> str:
        return place_of(self._source)

    def _engine(self, name: str, ack: str = "local") -> Engine:
        """
        Return the engine, started on first use; for the locks of this package.

        :param ack: durability level of the lock
        :raises LockError: after close, after fork, or in another event loop
        """
        engine = self._engines.get(ack)
        if engine is None:
            if self._closed:
                raise LockError(name, "its LockClient is closed; open a new one")
            engine = self._engines[ack] = _start(self._source, self.options, ack)
            engine.listeners = self._listeners
            engine.holders = self._holders
            # The client may be forgotten without a close; tasks and sockets must not.
            finalize(self, _stop, engine)
        engine.check(name)
        if engine.connection.stopped:
            raise LockError(name, "the tasks of its LockClient were cancelled; make a new one")
        return engine

    @property
    def _stopped(self) -> bool:
        """Whether somebody cancelled its tasks, as when a loop is shut down."""
        return any(engine.connection.stopped for engine in self._engines.values())

    async def aclose(self) -> None:
        """
        Release what is held, end all waits, and close the connection.

        :class:`~aiodistlock.LockClient` says what this raises, and what a cancellation leaves.
        """
        running = [engine for engine in self._engines.values() if not engine.closed]
        if is_thrown_away(running[0].loop if running else None):
            return
        for engine in running:
            engine.check("*")
        self._closed = True
        try:
            for engine in running:
                await engine.aclose()
        finally:
            for engine in running:
                if not is_thrown_away(engine.loop):
                    engine.stop()


def check_place(source: object, ttl: object, ack: object, linger: object = 0.0) -> Source | Engines:
    """
    Check what a user passes as the place of a lock, and that the lock's options fit it.

    :param ttl: what is no length of a lease, and what is no level in ``ack``, is not told
        here
    :param linger: for how long its released leases shall linger, seconds
    :raises TypeError: saying what is expected, if it cannot be used
    :raises ValueError: for no node, or one twice; naming all options that do not fit
    """
    if isinstance(source, Engines):
        place, options = source._source, source.options
    else:
        place, options = deployment.check(source), _DEFAULTS
    problems = options.too_long(ttl, quorum=deployment.is_quorum(place))
    if linger and deployment.is_quorum(place):
        problems.append("linger must be 0.0 on a quorum: no single server could recall the lease")
    refuse([*problems, deployment.ack_problem(place, ack)])
    return source if isinstance(source, Engines) else place


_DEFAULTS = ClientOptions()


def _start(source: Source, options: ClientOptions, ack: str) -> Engine:
    """Build an engine for this process and event loop, and its store."""
    host = options.label or "".join(c for c in socket.gethostname() if "!" <= c <= "~") or "host"
    client_id = f"{host}:{os.getpid()}:{secrets.token_hex(4)}"
    rng = Random(secrets.randbits(64))
    engine = Engine(client_id, options, deployment.clock_of(source), rng)
    engine.on_quorum = deployment.is_quorum(source)
    engine.start(deployment.build(source, engine, client_id, ack))
    return engine


def _stop(engine: Engine) -> None:
    """Stop an engine whose client was garbage-collected, from whatever thread."""
    if engine.forked:
        return
    try:
        engine.loop.call_soon_threadsafe(engine.stop)
    except RuntimeError:  # its loop is closed
        end_tasks_of(engine.loop)


# Keyed weakly by the user's client object, so that it takes its engines along; what is
# kept here must not hold that object, so it holds a stand-in.
# One client object has the group of no others; several are keyed by the first of them.
_Group = tuple[Any, ...]
_Groups = dict[_Group, dict[asyncio.AbstractEventLoop, Engines]]
_shared: WeakKeyDictionary[Any, _Groups] = WeakKeyDictionary()


def shared_engines(source: Source) -> Engines:
    """Return what locks on a client object, or on several, share in the running loop."""
    loop = asyncio.get_running_loop()
    several = isinstance(source, tuple)
    first, *others = source if isinstance(source, tuple) else (source,)
    with thread_lock:  # the other threads' loops have theirs in the same tables
        groups = _shared.setdefault(first, {})
        by_loop = groups.setdefault((several, *map(ref, others)), {})
        engines = by_loop.get(loop)
        if engines is None or engines._closed or engines._stopped:
            _forget_what_is_over(groups)
            engines = by_loop[loop] = Engines(deployment.stand_in(source), _DEFAULTS)
    return engines


def known_engines(source: Source) -> Engines | None:
    """Return it if there is one already; ``None`` also where no loop runs."""
    with contextlib.suppress(RuntimeError, TypeError), thread_lock:
        loop = asyncio.get_running_loop()
        several = isinstance(source, tuple)
        first, *others = source if isinstance(source, tuple) else (source,)
        by_loop = _shared.get(first, {}).get((several, *map(ref, others)), {})
        return by_loop.get(loop)
    return None


def _forget_what_is_over(groups: _Groups) -> None:
    """Drop what belongs to loops that are closed, and groups with a client object that is gone."""
    for group, by_loop in list(groups.items()):
        for loop in list(by_loop):
            if loop.is_closed():
                by_loop.pop(loop, None)
        if any(other() is None for other in group[1:]):
            groups.pop(group, None)
