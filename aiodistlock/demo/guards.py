"""What stands around the critical section in each act."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, TypeAlias

import anyio
from redis.asyncio import Redis

from aiodistlock import LockClient

from .messages import Act, Setup

Guard: TypeAlias = Callable[[str], AbstractAsyncContextManager[int | None]]
"""Takes a wallet; inside the block it is held. Gives the fencing token, if any."""

_NAIVE_PAUSE: Final = 0.01


@asynccontextmanager
async def open_guard(setup: Setup) -> AsyncIterator[Guard]:
    """Connect what the act needs, and close it afterwards."""
    match setup.act:
        case Act.NO_LOCK:
            yield _no_lock
        case Act.NAIVE_SETNX:
            async with Redis.from_url(setup.redis_url) as redis:
                yield _naive(redis, setup)
        case Act.ASYNC_LOCK:
            label = f"worker-{setup.number}"
            async with LockClient.from_url(setup.redis_url, label=label) as locks:
                yield _async_lock(locks, setup)


@asynccontextmanager
async def _no_lock(_wallet: str) -> AsyncIterator[None]:
    yield None


def _naive(redis: Redis, setup: Setup) -> Guard:
    holder = f"worker-{setup.number}:{os.getpid()}"

    @asynccontextmanager
    async def hold(wallet: str) -> AsyncIterator[None]:
        # The lock of many a blog post. No ttl: if this process dies inside, the
        # key stays for ever. Do not copy.
        key = setup.namespace + wallet
        while not await redis.set(key, holder, nx=True):
            await anyio.sleep(_NAIVE_PAUSE)
        try:
            yield None
        finally:
            await redis.delete(key)

    return hold


def _async_lock(locks: LockClient, setup: Setup) -> Guard:
    @asynccontextmanager
    async def hold(wallet: str) -> AsyncIterator[int]:
        lock = locks.lock(wallet, ttl=setup.ttl, namespace=setup.namespace)
        async with lock as lease:
            yield lease.fencing_token

    return hold
