"""coredis' Lock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from coredis import Redis
from coredis.patterns.lock import Lock


class Coredis:
    """Locks of coredis; a lock object keeps its token, so each task has its own."""

    def __init__(self, redis: Redis[Any], ttl: float) -> None:
        self._redis = redis
        self._ttl = ttl

    def lock(self, name: str) -> Any:
        """Return a lock of one task."""
        return Lock(self._redis, name, timeout=self._ttl)


@asynccontextmanager
async def connect(url: str, tasks: int, ttl: float) -> AsyncIterator[Coredis]:
    """Connect with a connection for each task."""
    redis: Redis[Any] = Redis.from_url(url, max_connections=tasks + 8)
    async with redis:
        yield Coredis(redis, ttl)
