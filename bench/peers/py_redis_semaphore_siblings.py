"""py-redis-semaphore, with its defaults; waits by BLPOP, and a task renews each lease."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis_semaphore import Semaphore, SemaphoreConfig

from bench.peers import redis_py
from bench.peers.siblings import LIMIT, Places, SiblingPeer, permits

SIBLINGS = ("semaphore",)
"""What it has."""


@asynccontextmanager
async def connect(url: str, tasks: int, ttl: float, sibling: str) -> AsyncIterator[SiblingPeer]:
    """Connect with a connection for each task, as a wait (BLPOP) keeps one."""
    assert sibling in SIBLINGS
    async with redis_py.connected(url, tasks) as redis:

        def make(name: str) -> Places:
            # It keeps its token: each task has one of its own, and leaves it before it enters it.
            config = SemaphoreConfig(name=name, limit=LIMIT, lock_timeout=ttl)
            semaphore = Semaphore(redis, config)
            return permits(lambda: semaphore)

        yield SiblingPeer(make)
