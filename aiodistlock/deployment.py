"""What locks may be kept on, and how an engine is wired to it."""

from __future__ import annotations

import inspect
import os
import secrets
import socket
from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING, Union, cast

from aiodistlock.core.clock import local_clock
from aiodistlock.core.options import ClientOptions
from aiodistlock.engine.acquire import Engine
from aiodistlock.engine.inbox import Grant, Inbox
from aiodistlock.engine.pipe import Pipe
from aiodistlock.engine.quorum import quorum_store
from aiodistlock.stores.memory import MemoryServer, MemoryStore
from aiodistlock.stores.single import SingleStore

if TYPE_CHECKING:
    from redis.asyncio import Redis


Source = Union["Redis", "tuple[Redis, ...]", MemoryServer]
"""Where locks are kept, as it is after :func:`check`."""


class Settings:
    """Stands for a user's client in its shared LockClient: the pool, not the object."""

    def __init__(self, redis: Redis) -> None:
        self.connection_pool = redis.connection_pool

    async def aclose(self) -> None:
        """Nothing is ours to close."""


def stand_in(source: Source) -> tuple[Settings, ...] | Settings:
    """Return the settings alone of a user's client object, or of several."""
    if isinstance(source, tuple):
        return tuple(Settings(redis) for redis in source)
    assert not isinstance(source, MemoryServer), "memory has no client object"
    return Settings(source)


def check(source: object) -> Source:
    """
    Check what a user passes as the place where locks are kept.

    :raises TypeError: saying what is expected, if it cannot be used
    :raises ValueError: for a sequence that is empty, or has a client object twice
    """
    if isinstance(source, (MemoryServer, Settings)):
        return cast("Source", source)
    if isinstance(source, Sequence) and not isinstance(source, (str, bytes)):
        return _check_nodes(source)
    if not hasattr(source, "connection_pool"):
        raise TypeError(
            f"expected a redis.asyncio.Redis or a LockClient, not {type(source).__name__}"
        )
    if not inspect.iscoroutinefunction(getattr(source, "aclose", None)):
        raise TypeError("expected a redis.asyncio.Redis, not the blocking redis.Redis")
    return cast("Source", source)


def _check_nodes(nodes: Sequence[object]) -> tuple[Redis, ...]:
    if not nodes:
        raise ValueError("a quorum needs at least one redis.asyncio.Redis, better 3 or 5")
    for node in nodes:
        if isinstance(node, (MemoryServer, Sequence)):
            raise TypeError(
                "expected a sequence of redis.asyncio.Redis, "
                f"not one that holds a {type(node).__name__}"
            )
        check(node)
    if len({id(node) for node in nodes}) < len(nodes):
        raise ValueError("the same Redis client twice: each node of a quorum must be another Redis")
    return cast("tuple[Redis, ...]", tuple(nodes))


def start(source: Source, options: ClientOptions) -> Engine:
    """Build an engine for this process and event loop, wired to its store."""
    host = options.label or "".join(c for c in socket.gethostname() if "!" <= c <= "~") or "host"
    client_id = f"{host}:{os.getpid()}:{secrets.token_hex(4)}"
    engine = Engine(client_id, options, local_clock, Random(secrets.randbits(64)))
    channel = f"aiodistlock:inbox:{client_id}".encode()
    if isinstance(source, MemoryServer):
        engine.start(_memory(source, engine, channel))
    elif isinstance(source, tuple):
        pools = [redis.connection_pool for redis in source]
        engine.start(quorum_store(pools, engine, channel))
    else:
        engine.start(_single(source, engine, channel))
    return engine


def _memory(server: MemoryServer, engine: Engine, channel: bytes) -> MemoryStore:
    def deliver(fence: int, server_us: int, ttl_ms: int, token: bytes, key: bytes) -> None:
        engine.on_grant(Grant(fence, server_us, ttl_ms / 1000, token, key))

    return MemoryStore(server, channel, deliver, engine.clock)


def _single(redis: Redis, engine: Engine, channel: bytes) -> SingleStore:
    inbox = Inbox(
        redis.connection_pool,
        channel,
        on_grant=engine.on_grant,
        on_listening=engine.on_listening,
        clock=engine.clock,
        rng=engine.rng,
    )
    pipe = Pipe(
        redis.connection_pool,
        inbox,
        on_connected=engine.on_connected,
        on_listening=engine.on_listening,
        wanted=engine.busy,
        clock=engine.clock,
        rng=engine.rng,
        unavailable_after=engine.options.unavailable_after,
    )
    return SingleStore(pipe, channel, engine.options.fence_retention)
