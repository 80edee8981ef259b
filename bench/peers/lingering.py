"""aiodistlock with locks that linger: a released lease is used again without asking Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import Redis

from bench.peers.ours import Ours

LINGER = 0.05
"""Seconds, as the documentation shows it."""


@asynccontextmanager
async def connect(url: str, tasks: int, ttl: float) -> AsyncIterator[Ours]:
    """Connect to one Redis: nothing lingers elsewhere."""
    del tasks
    async with Redis.from_url(url) as redis:
        yield Ours(redis, ttl, LINGER)
