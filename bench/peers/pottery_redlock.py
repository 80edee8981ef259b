"""pottery's AIORedlock, on one master."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from pottery import AIORedlock
from redis.asyncio import ConnectionPool, Redis


class Pottery:
    """Locks of pottery; a lock object keeps its token, so each task has its own."""

    def __init__(self, redis: Redis, ttl: float) -> None:
        self._redis = redis
        self._ttl = ttl

    def lock(self, name: str) -> Any:
        """Return a lock of one task."""
        return AIORedlock(key=name, masters={self._redis}, auto_release_time=self._ttl)


@asynccontextmanager
async def connect(url: str, tasks: int, ttl: float) -> AsyncIterator[Pottery]:
    """Connect with a connection for each task."""
    # It logs each contended acquisition.
    logging.getLogger("pottery").setLevel(logging.ERROR)
    pool = ConnectionPool.from_url(url, max_connections=tasks + 8)
    async with Redis.from_pool(pool) as redis:
        yield Pottery(redis, ttl)
