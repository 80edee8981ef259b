"""The lock that most services begin with: SET NX, a pause, DEL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import ConnectionPool, Redis

POLL = 0.1
"""Pause between tries, seconds."""


class SetNx:
    """
    A lock without a token: its release deletes whatever is at the key.

    Correct only as long as nobody is slower than the ttl.
    """

    def __init__(self, redis: Redis, ttl: float) -> None:
        self._redis = redis
        self._ttl_ms = int(ttl * 1000)

    def lock(self, name: str) -> _Entry:
        """Return the lock of a name."""
        return _Entry(self._redis, name, self._ttl_ms)


class _Entry:
    def __init__(self, redis: Redis, name: str, ttl_ms: int) -> None:
        self._redis = redis
        self._name = name
        self._ttl_ms = ttl_ms

    async def __aenter__(self) -> None:
        while not await self._redis.set(self._name, 1, nx=True, px=self._ttl_ms):
            await asyncio.sleep(POLL)

    async def __aexit__(self, *_: object) -> None:
        await self._redis.delete(self._name)


@asynccontextmanager
async def connect(url: str, tasks: int, ttl: float) -> AsyncIterator[SetNx]:
    """Connect with a connection for each task."""
    pool = ConnectionPool.from_url(url, max_connections=tasks + 8)
    async with Redis.from_pool(pool) as redis:
        yield SetNx(redis, ttl)
