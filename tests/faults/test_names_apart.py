"""Two names are two locks, however alike they are and whatever Redis keeps for them."""

import asyncio
from typing import Any

import pytest
import redis.asyncio as redis_asyncio
from anyio import fail_after
from redis.asyncio import Redis

from aiodistlock import AsyncLock, LockClient, locked
from aiodistlock.compat import RedisPyLock
from tests.faults.world import PATIENT, eventually
from tests.redis.clients import pair

ALIKE = [
    ("{0}cart", "{{{0}cart}}"),
    ("{{{0}a}}{{b}}", "{{{0}a}}:{{{0}a}}{{b}}"),
    (":{{{0}a}}", "{{{0}a}}"),
    ("{0}a", "{0}a "),
    ("{{{0}x}}", "{{{0}x}}:fence"),
    ("{{{0}x}}", "{{{0}x}}:queue"),
]


def _lock(kind: type[Any], redis: Redis, key: str) -> Any:
    if kind is RedisPyLock:
        return RedisPyLock(redis, key, timeout=20.0, sleep=5.0)
    return AsyncLock(redis, key, ttl=20.0, namespace="", backoff=PATIENT)


async def _release(lock: Any, held: Any) -> None:
    await (lock if isinstance(lock, RedisPyLock) else held).release()


@pytest.mark.parametrize("kind", [AsyncLock, RedisPyLock])
@pytest.mark.parametrize(("one", "other"), ALIKE)
async def test_names_that_are_alike_are_two_locks(
    redis_url: str, namespace: str, kind: type[Any], one: str, other: str
) -> None:
    """Who waits for one gets it from its holder, and not when the other is released."""
    one, other = one.format(namespace), other.format(namespace)
    async with pair(redis_url) as (here, there):
        first, second, third = (
            _lock(kind, *where) for where in ((here, one), (here, other), (there, other))
        )
        look = AsyncLock(here, other, namespace="")

        async def queued() -> int:
            return len((await look.inspect()).waiters)

        with fail_after(10):
            held, also = await first.acquire(), await second.acquire()
            waiting = asyncio.create_task(third.acquire())
            await eventually(queued, 1)
            await _release(first, held)
            # Behind that release on its connection, and a way to the other client and back.
            assert (await look.inspect()).waiters
            assert not await there.exists(one)
            assert not waiting.done()
            await _release(second, also)
            await _release(third, await waiting)


@pytest.mark.parametrize(
    "name", ["aiodistlock:fence:{x}", "aiodistlock:queue::{x}", "aiodistlock:"]
)
async def test_a_reserved_name_is_refused_before_any_request(name: str) -> None:
    """Whoever builds the lock is told, though no Redis is there."""
    redis = redis_asyncio.Redis(port=1)
    async with LockClient(redis) as locks:
        for build in (
            lambda: AsyncLock(redis, name, namespace=""),
            lambda: AsyncLock([redis], name, namespace=""),
            lambda: AsyncLock(redis, "x", namespace=name),
            lambda: locks.lock(name, namespace=""),
            lambda: RedisPyLock(redis, name),
        ):
            with pytest.raises(ValueError, match="reserved"):
                build()

        @locked("{name}", redis, namespace="")
        async def run(name: str) -> None:
            del name

        with pytest.raises(ValueError, match="reserved"):
            await run(name)
    await redis.aclose()
