"""redis-py's own asyncio Lock: the reference."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.asyncio.lock import Lock
from redis.exceptions import LockError, RedisError

MOST_TASKS = 1024
"""Up to so many tasks each has a connection.  More only renew now and then."""

POOL = 256
"""Connections that those share; waiting for one makes each command slower."""

CONNECT_WITHIN = 30.0
"""Seconds; with the default of 5, of 1,024 that connect at once some fail on a busy machine."""


class RedisPy:
    """Locks of redis-py; a lock object keeps its token, so each task has its own."""

    def __init__(self, redis: Redis, ttl: float) -> None:
        self._redis = redis
        self._ttl = ttl
        self._losses: list[str] = []
        self._renewing: list[asyncio.Task[None]] = []

    def lock(self, name: str) -> Lock:
        """Return a lock of one task."""
        return self._redis.lock(name, timeout=self._ttl)

    async def keep(self, name: str) -> None:
        """Acquire, and renew by a task of its own: redis-py has no watchdog."""
        lock = self.lock(name)
        await lock.acquire()
        self._renewing.append(asyncio.create_task(self._renew(lock)))

    async def _renew(self, lock: Lock) -> None:
        while True:
            await asyncio.sleep(self._ttl / 3)
            try:
                await lock.reacquire()
            except (LockError, RedisError, OSError) as error:
                self._losses.append(f"{type(error).__name__}: {error}")
                return

    def losses(self) -> list[str]:
        """Return why leases were not renewed any more, one text each."""
        return self._losses


@asynccontextmanager
async def connected(url: str, tasks: int) -> AsyncIterator[Redis]:
    """
    Connect with a connection for each task.

    The default pool of 100 connections raises ``MaxConnectionsError`` beyond that.
    """
    pool: ConnectionPool
    within = CONNECT_WITHIN
    if tasks <= MOST_TASKS:
        pool = ConnectionPool.from_url(
            url, max_connections=tasks + 8, socket_connect_timeout=within
        )
    else:
        pool = BlockingConnectionPool.from_url(
            url, max_connections=POOL, timeout=30, socket_connect_timeout=within
        )
    async with Redis.from_pool(pool) as redis:
        yield redis


@asynccontextmanager
async def connect(url: str, tasks: int, ttl: float) -> AsyncIterator[RedisPy]:
    """Connect with a connection for each task."""
    async with connected(url, tasks) as redis:
        yield RedisPy(redis, ttl)
