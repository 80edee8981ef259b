"""What locks may be kept on, and how an engine is wired to it."""

from __future__ import annotations

import inspect
import os
import secrets
import socket
from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING, Any, Union, cast

from aiodistlock.core.ack import Ack, parse_ack
from aiodistlock.core.options import ClientOptions
from aiodistlock.engine.acquire import Engine
from aiodistlock.engine.cluster import ClusterWire
from aiodistlock.engine.durable_pipe import DurablePipe
from aiodistlock.engine.inbox import Grant, Inbox
from aiodistlock.engine.nodes import Nodes, nodes_of
from aiodistlock.engine.pipe import Pipe
from aiodistlock.engine.quorum import quorum_store
from aiodistlock.stores.base import Store
from aiodistlock.stores.durable import Barrier, DurableStore
from aiodistlock.stores.memory import MemoryStore
from aiodistlock.stores.memory_server import MemoryServer
from aiodistlock.stores.scripts import ON_CLUSTER
from aiodistlock.stores.single import SingleStore

if TYPE_CHECKING:
    from redis.asyncio import Redis, RedisCluster


Source = Union["Redis", "RedisCluster", "tuple[Redis, ...]", MemoryServer]
"""Where locks are kept, as it is after :func:`check`."""


class Settings:
    """Stands for a user's client in its shared LockClient: the pool, not the object."""

    def __init__(self, redis: Redis) -> None:
        self.connection_pool = redis.connection_pool

    async def aclose(self) -> None:
        """Nothing is ours to close."""


def stand_in(source: Source) -> tuple[Settings, ...] | Settings | Nodes:
    """Return what a user's client object, or several, are set to, without the objects."""
    if isinstance(source, tuple):
        return tuple(Settings(redis) for redis in source)
    return nodes_of(source) or Settings(cast("Redis", source))


def check(source: object) -> Source:
    """
    Check what a user passes as the place where locks are kept.

    :raises TypeError: saying what is expected, if it cannot be used
    :raises ValueError: for a sequence that is empty, or has a client object twice
    """
    if isinstance(source, (MemoryServer, Settings, Nodes)):
        return cast("Source", source)
    if isinstance(source, Sequence) and not isinstance(source, (str, bytes)):
        return _check_nodes(source)
    if not (hasattr(source, "connection_pool") or hasattr(source, "nodes_manager")):
        raise TypeError(
            "expected a redis.asyncio.Redis or RedisCluster, a sequence of independent Redis, "
            f"or a LockClient, not {type(source).__name__}"
        )
    pool = getattr(source, "connection_pool", None)
    if not getattr(pool, "is_master", True):
        raise TypeError("expected Sentinel's master_for(...): replicas cannot keep locks")
    if not inspect.iscoroutinefunction(getattr(source, "aclose", None)):
        raise TypeError("expected a client of redis.asyncio, not a blocking one of redis")
    return cast("Source", source)


def _check_nodes(nodes: Sequence[object]) -> tuple[Redis, ...]:
    if not nodes:
        raise ValueError("a quorum needs at least one redis.asyncio.Redis, better 3 or 5")
    for node in nodes:
        if not isinstance(node, Settings) and not hasattr(node, "connection_pool"):
            raise TypeError(
                "expected a sequence of redis.asyncio.Redis, "
                f"not one that holds a {type(node).__name__}"
            )
        check(node)
    if len({id(node) for node in nodes}) < len(nodes):
        raise ValueError("the same Redis client twice: each node of a quorum must be another Redis")
    return cast("tuple[Redis, ...]", tuple(nodes))


def check_ack(source: Source, ack: str) -> None:
    """
    Check that a lock's durability level can be had where it is kept.

    :raises ValueError: if there are no replicas and no disk of one server to ask
    """
    if ack != "local" and not hasattr(source, "connection_pool"):
        kind = "a quorum" if isinstance(source, tuple) else type(source).__name__
        raise ValueError(
            f"ack={ack!r} needs one Redis (or one behind Sentinel); "
            f"a lock on {kind} takes ack='local' only"
        )


def start(source: Source | Nodes, options: ClientOptions, ack: str = "local") -> Engine:
    """
    Build an engine for this process and event loop, wired to its store.

    :param ack: what its leases wait for, so that those of other levels need not
    """
    host = options.label or "".join(c for c in socket.gethostname() if "!" <= c <= "~") or "host"
    client_id = f"{host}:{os.getpid()}:{secrets.token_hex(4)}"
    clock = source.clock if isinstance(source, MemoryServer) else None
    engine = Engine(client_id, options, clock, Random(secrets.randbits(64)))
    channel = f"aiodistlock:inbox:{client_id}".encode()
    if isinstance(source, MemoryServer):
        engine.start(_memory(source, engine, channel))
    elif isinstance(source, tuple):
        pools = [redis.connection_pool for redis in source]
        engine.start(quorum_store(pools, engine, channel))
    elif (nodes := nodes_of(source)) is not None:
        engine.start(_cluster(nodes, engine, channel))
    else:
        engine.start(_single(cast("Redis", source), engine, channel, parse_ack(ack)))
    return engine


def _memory(server: MemoryServer, engine: Engine, channel: bytes) -> MemoryStore:
    def deliver(fence: int, server_us: int, ttl_ms: int, token: bytes, key: bytes) -> None:
        grant = Grant(fence, server_us, ttl_ms / 1000, token, key)
        engine.on_grant(grant, store.one_clock)

    store = MemoryStore(server, channel, deliver, engine.clock)
    return store


def _single(redis: Redis, engine: Engine, channel: bytes, ack: Ack) -> Store:
    pool = redis.connection_pool
    inbox = Inbox(
        pool,
        channel,
        on_grant=engine.on_unacknowledged_grant if ack.waits else engine.on_grant,
        on_listening=engine.on_listening,
        clock=engine.clock,
        rng=engine.rng,
    )
    retention = engine.options.fence_retention
    events: dict[str, Any] = {
        "on_connected": engine.on_connected,
        "on_listening": engine.on_listening,
        "wanted": engine.busy,
        "clock": engine.clock,
        "rng": engine.rng,
        "unavailable_after": engine.options.unavailable_after,
    }
    if not ack.waits:
        return SingleStore(Pipe(pool, inbox, **events), inbox, retention)
    barrier = Barrier(ack, engine.clock)
    pipe = DurablePipe(pool, inbox, barrier=barrier, **events)
    return DurableStore(SingleStore(pipe, inbox, retention), barrier)


def _cluster(nodes: Nodes, engine: Engine, prefix: bytes) -> SingleStore:
    wire = ClusterWire(
        nodes,
        prefix,
        on_grant=engine.on_grant,
        on_moved=engine.on_moved,
        wanted=engine.busy,
        waited_for=lambda: {keys.slot for keys in engine.waited_for()},
        clock=engine.clock,
        rng=engine.rng,
        unavailable_after=engine.options.unavailable_after,
    )
    return SingleStore(wire, wire.inboxes, engine.options.fence_retention, ON_CLUSTER)
