"""A service moves from redis-py's Lock to aiodistlock, one process at a time.

Run it with a Redis at REDIS_URL (default redis://localhost:6379).
"""

import asyncio
import os

from redis.asyncio import Redis

from aiodistlock import AsyncLock
from aiodistlock.compat import RedisPyLock

REDIS_URL = os.environ.get("REDIS_URL", "redis://localhost:6379")
NAME = "example:wallet:42"


async def old_process(redis: Redis) -> None:
    """Lock as every process does today."""
    async with redis.lock(NAME, timeout=10):
        print("old: redis-py's lock")


async def first_step(redis: Redis) -> None:
    """One argument more: the same key, methods and errors; woken instead of polling."""
    async with redis.lock(NAME, timeout=10, lock_class=RedisPyLock):
        print("new: the same lock, on aiodistlock's engine")


async def second_step(redis: Redis) -> None:
    """Renewed while held, cancelled when lost, with a fencing token; still the same key."""
    async with AsyncLock(redis, NAME, namespace="") as lease:
        print(f"new: a lease, under fencing token {lease.fencing_token}")


async def main() -> None:
    """Run all three as a deployment in progress does: at once, and one at a time."""
    async with Redis.from_url(REDIS_URL) as old, Redis.from_url(REDIS_URL) as new:
        await asyncio.gather(old_process(old), first_step(new), second_step(new))
        assert not await new.exists(NAME)


if __name__ == "__main__":
    asyncio.run(main())
