"""The same by hand, on redis-py and its own Lock: what a service without such things writes."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

from redis.asyncio import Redis
from redis.commands.core import AsyncScript

from bench.peers import redis_py
from bench.peers.siblings import (
    LIMIT,
    READING,
    Entry,
    Places,
    SiblingPeer,
    own_names,
    permits,
    readers_and_writers,
    some_names,
)

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


# J. L. Carlson, "Redis in Action", 6.3 and 11.2: who holds is a sorted set by the end of each
# lease.  In a script, and by the server's clock, it does without the counter that makes it fair.
_ENTER = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if KEYS[2] and redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
"""

_LEAVE = "return redis.call('ZREM', KEYS[1], ARGV[1])"

_LEFT = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
return redis.call('EXISTS', KEYS[1]) == 0
"""

_POLL = 0.1
"""Seconds between two looks: redis-py's own."""

_ANY = 1_000_000
"""A limit that is none."""


class Members:
    """
    Those who hold together, in a sorted set.

    :param barred_by: key of a lock whose holder keeps others out; none if empty
    """

    def __init__(self, redis: Redis, name: str, ttl: float, most: int, barred_by: str = "") -> None:
        self._keys = [f"members:{name}", *([barred_by] if barred_by else [])]
        self._most, self._ttl_ms = most, int(ttl * 1000)
        self._enter, self._leave, self._left = map(redis.register_script, (_ENTER, _LEAVE, _LEFT))

    @asynccontextmanager
    async def member(self) -> AsyncIterator[None]:
        """Enter as soon as there is room, and leave."""
        token = uuid.uuid4().hex
        await _until(self._enter, self._keys, [token, self._most, self._ttl_ms])
        try:
            yield
        finally:
            await self._leave(self._keys[:1], [token])

    async def all_left(self) -> None:
        """Wait until nobody is inside."""
        await _until(self._left, self._keys[:1], [])


async def _until(script: AsyncScript, keys: Sequence[str], args: Sequence[str | int]) -> None:
    while not await script(keys, args):
        await asyncio.sleep(_POLL)


def _semaphore(redis: Redis, name: str, ttl: float) -> Places:
    return permits(Members(redis, name, ttl, LIMIT).member)


def _readwrite(redis: Redis, name: str, ttl: float, reading: float = READING) -> Places:
    # The writer's lock bars readers; then it waits for those who read.  So none starve it.
    readers = Members(redis, name, ttl, _ANY, name)

    @asynccontextmanager
    async def write() -> AsyncIterator[None]:
        async with redis.lock(name, timeout=ttl):
            await readers.all_left()
            yield

    return readers_and_writers(readers.member, write, reading)


SIBLINGS: dict[str, Callable[[Redis, str, float], Any]] = {
    "windows": Windows,
    "election": _election,
    "together": _together,
    "subsets": _subsets,
    "semaphore": _semaphore,
    "readwrite": _readwrite,
    "readers": partial(_readwrite, reading=1.0),
}


@asynccontextmanager
async def connect(url: str, tasks: int, ttl: float, sibling: str) -> AsyncIterator[SiblingPeer]:
    """Connect with a connection for each task."""
    async with redis_py.connected(url, tasks) as redis:
        yield SiblingPeer(lambda name: SIBLINGS[sibling](redis, name, ttl))
