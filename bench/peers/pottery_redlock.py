"""pottery's AIORedlock, on one master or several."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from pottery import AIORedlock
from redis.asyncio import ConnectionPool, Redis


class Pottery:
    """Locks of pottery; a lock object keeps its token, so each task has its own."""

    def __init__(self, masters: set[Redis], ttl: float) -> None:
        self._masters = masters
        self._ttl = ttl

    def lock(self, name: str) -> Any:
        """Return a lock of one task."""
        return AIORedlock(key=name, masters=self._masters, auto_release_time=self._ttl)


@asynccontextmanager
async def connect(url: str, tasks: int, ttl: float) -> AsyncIterator[Pottery]:
    """Connect with a connection for each task."""
    # It logs each contended acquisition.
    logging.getLogger("pottery").setLevel(logging.ERROR)
    async with AsyncExitStack() as stack:
        masters = set()
        for each in url.split(","):
            pool = ConnectionPool.from_url(each, max_connections=tasks + 8)
            masters.add(await stack.enter_async_context(Redis.from_pool(pool)))
        yield Pottery(masters, ttl)
