"""Users' clients in all their settings, and what a pair of them must be able to do."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from anyio import fail_after
from redis.asyncio import Redis, RedisCluster

from aiodistlock import AsyncLock, Backoff
from aiodistlock.engines import shared_engines
from aiodistlock.waiting.pauses import MAX_PAUSE

Client = TypeVar("Client", Redis, RedisCluster)

# Whoever polls by this one waits for longer than any test lasts.
NEVER = Backoff(initial=60.0, cap=60.0)


@asynccontextmanager
async def closing(redis: Client) -> AsyncIterator[Client]:
    """Close a user's client, and what its locks share, which would go with the object."""
    try:
        yield redis
    finally:
        await shared_engines(redis).aclose()
        await redis.aclose()


@asynccontextmanager
async def pair(url: str, **settings: Any) -> AsyncIterator[tuple[Redis, Redis]]:
    """Two clients with the same settings, as two processes have."""
    async with (
        closing(Redis.from_url(url, **settings)) as one,
        closing(Redis.from_url(url, **settings)) as other,
    ):
        yield one, other


async def exchange(one: Redis, other: Redis, namespace: str, backoff: Backoff = NEVER) -> None:
    """Hold, wait, hand over and release between two clients, with no help from polling."""
    # Who misses a grant asks again when the holder's ttl is over, or after MAX_PAUSE.
    locks = [
        AsyncLock(redis, "wallet", ttl=40.0, namespace=namespace, backoff=backoff)
        for redis in (one, other)
    ]
    fences = []

    async def visit(lock: AsyncLock) -> None:
        async with lock as lease:
            fences.append(lease.fencing_token)
            await lease.extend(45.0)
            # Longer than the shortest socket timeout that is tested.
            await asyncio.sleep(0.02)

    with fail_after(0.9 * MAX_PAUSE):
        for _ in range(2):
            await asyncio.gather(*(visit(locks[n % 2]) for n in range(4)))
    assert fences == sorted(set(fences))
    assert len(fences) == 8
    assert not await locks[0].locked()


async def connections(redis: Redis, name: str) -> int:
    """Count the connections of a client name at the server."""
    found: list[dict[str, str]] = await redis.client_list()
    return sum(each["name"] == name for each in found)
