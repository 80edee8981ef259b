"""The same by hand, on redis-py's own Lock: what a service without such things writes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

from redis.asyncio import Redis

from bench.peers import redis_py
from bench.peers.siblings import Entry, SiblingPeer, own_names, some_names

REMEMBERED = 604_800
"""Seconds for which a mark stays: a week, as ours."""


class Windows:
    """
    A lock, and a mark beside it: looked at before and behind the lock, written under it.

    A crash is taken over, as with ours; but nothing renews the lease, and nothing is fenced.
    """

    def __init__(self, redis: Redis, name: str, ttl: float) -> None:
        self._redis = redis
        self._lock = redis.lock(name, timeout=ttl)
        self._mark = f"done:{name}"

    async def run(self, window: int, body: Callable[[], Awaitable[object]]) -> bool:
        """Do a window if it is not done; tell whether it was ours."""
        if await self._is_done(window):
            return False
        async with self._lock:
            if await self._is_done(window):
                return False
            await body()
            await self._redis.set(self._mark, window, ex=REMEMBERED)
        return True

    async def _is_done(self, window: int) -> bool:
        return int(await self._redis.get(self._mark) or 0) >= window


def _election(redis: Redis, name: str, ttl: float) -> Entry:
    # Whoever polls first leads; the pause is the default, 0.1 s.
    return Entry(lambda: redis.lock(name, timeout=ttl))


@asynccontextmanager
async def _one_by_one(redis: Redis, names: Sequence[str], ttl: float) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for each in sorted(names):
            await stack.enter_async_context(redis.lock(each, timeout=ttl))
        yield


def _together(redis: Redis, name: str, ttl: float) -> Entry:
    return Entry(lambda: _one_by_one(redis, own_names(name), ttl))


def _subsets(redis: Redis, name: str, ttl: float) -> Entry:
    def block() -> AbstractAsyncContextManager[None]:
        return _one_by_one(redis, some_names(name), ttl)

    return Entry(block)


SIBLINGS: dict[str, Callable[[Redis, str, float], Any]] = {
    "windows": Windows,
    "election": _election,
    "together": _together,
    "subsets": _subsets,
}


@asynccontextmanager
async def connect(url: str, tasks: int, ttl: float, sibling: str) -> AsyncIterator[SiblingPeer]:
    """Connect with a connection for each task."""
    async with redis_py.connected(url, tasks) as redis:
        yield SiblingPeer(lambda name: SIBLINGS[sibling](redis, name, ttl))
