"""A service moves from redis-py's Lock to aiodistlock, one process at a time.

``python examples/migrate_from_redis_py.py [URL]`` runs three processes of a service at once,
as a deployment in progress does: an old one, one that has changed one argument, and one that
is done. All exclude each other. It prints::

    old: 20 deposits under redis-py's lock
    first step: 20 deposits under the same lock, on aiodistlock's engine
    second step: 20 deposits under leases, the last one with fencing token ...
    60 deposits were made, none is lost: the balance is 60
"""

from __future__ import annotations

import asyncio
from uuid import uuid4

from redis.asyncio import Redis

from _server import redis_url
from aiodistlock import AsyncLock
from aiodistlock.compat import RedisPyLock


class Wallet:
    """Stands for the database that all processes use."""

    balance = 0

    async def deposit(self) -> None:
        """Read, think, write: safe only with the lock held."""
        read = self.balance
        await asyncio.sleep(0)
        self.balance = read + 1


async def old_process(redis: Redis, name: str, wallet: Wallet) -> str:
    """Lock as every process does today."""
    for _ in range(20):
        async with redis.lock(name, timeout=10):
            await wallet.deposit()
    return "old: 20 deposits under redis-py's lock"


async def first_step(redis: Redis, name: str, wallet: Wallet) -> str:
    """One argument more: the same key, methods and errors; woken instead of polling."""
    for _ in range(20):
        async with redis.lock(name, timeout=10, lock_class=RedisPyLock):
            await wallet.deposit()
    return "first step: 20 deposits under the same lock, on aiodistlock's engine"


async def second_step(redis: Redis, name: str, wallet: Wallet) -> str:
    """Renewed while held, cancelled when lost, with a fencing token; still the same key."""
    for _ in range(20):
        async with AsyncLock(redis, name, namespace="") as lease:
            await wallet.deposit()
    token = lease.fencing_token
    return f"second step: 20 deposits under leases, the last one with fencing token {token}"


async def main(url: str) -> None:
    """Run all three at once."""
    name, wallet = f"example:wallet:{uuid4().hex[:6]}", Wallet()
    async with Redis.from_url(url) as old, Redis.from_url(url) as new, Redis.from_url(url) as newer:
        told = await asyncio.gather(
            old_process(old, name, wallet),
            first_step(new, name, wallet),
            second_step(newer, name, wallet),
        )
    print(*told, sep="\n")
    print(f"60 deposits were made, none is lost: the balance is {wallet.balance}")


if __name__ == "__main__":
    with redis_url() as url:
        asyncio.run(main(url))
