"""aiodistlock with locks that linger where that has been seen to pay."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import Redis

from bench.peers.ours import Ours


@asynccontextmanager
async def connect(url: str, tasks: int, ttl: float) -> AsyncIterator[Ours]:
    """Connect to one Redis: nothing lingers elsewhere."""
    del tasks
    async with Redis.from_url(url) as redis:
        yield Ours(redis, ttl, "auto")
