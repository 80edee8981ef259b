"""A transfer that locks two wallets, and cannot dead-lock.

``python examples/wallet_transfer.py [URL]`` has two services transfer money between the
same wallets in opposite directions. Each takes both locks together, so in one order. Then
they take them by hand, as they come: each has what the other waits for, and only the
timeouts end it. It prints::

    together: 200 transfers done, a has 100, b has 100
    as they come: ... of 2 transfers gave up: lock 'wallet:...': not acquired within 0.3 s...
    nothing lost: a has ..., b has ..., 200 in all
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import uuid4

from _server import redis_url
from aiodistlock import AcquireTimeout, LockClient

Wallets = dict[str, int]
"""Stands for the database that both services use."""


async def move(wallets: Wallets, source: str, target: str, amount: int) -> None:
    """Read both balances, think, and write both: safe only with both locks held."""
    held, wanted = wallets[source], wallets[target]
    await asyncio.sleep(0)
    wallets[source], wallets[target] = held - amount, wanted + amount


async def transfer(
    locks: LockClient, wallets: Wallets, source: str, target: str, amount: int
) -> None:
    """Move money, holding both wallets."""
    async with locks.together(f"wallet:{source}", f"wallet:{target}", timeout=30.0):
        await move(wallets, source, target, amount)


async def transfer_as_they_come(
    locks: LockClient,
    wallets: Wallets,
    source: str,
    target: str,
    both_have_one: asyncio.Barrier,
) -> None:
    """Lock the source, then the target: the mistake. Each gets as far as its first lock."""
    async with locks.lock(f"wallet:{source}"):
        await both_have_one.wait()
        async with locks.lock(f"wallet:{target}", timeout=0.3):
            await move(wallets, source, target, 10)


async def together(services: Sequence[LockClient], wallets: Wallets, a: str, b: str) -> None:
    """Have both services transfer back and forth, all at once."""
    async with asyncio.TaskGroup() as group:
        for _ in range(100):
            group.create_task(transfer(services[0], wallets, a, b, 5))
            group.create_task(transfer(services[1], wallets, b, a, 5))
    print(f"together: 200 transfers done, a has {wallets[a]}, b has {wallets[b]}")


async def as_they_come(services: Sequence[LockClient], wallets: Wallets, a: str, b: str) -> None:
    """Have each service hold what the other one wants."""
    barrier = asyncio.Barrier(2)
    results = await asyncio.gather(
        transfer_as_they_come(services[0], wallets, a, b, barrier),
        transfer_as_they_come(services[1], wallets, b, a, barrier),
        return_exceptions=True,
    )
    gave_up = [result for result in results if isinstance(result, AcquireTimeout)]
    print(f"as they come: {len(gave_up)} of 2 transfers gave up: {gave_up[0]}")


async def main(url: str) -> None:
    """Show both."""
    run = uuid4().hex[:6]
    a, b = f"a-{run}", f"b-{run}"
    wallets = {a: 100, b: 100}
    async with LockClient.from_url(url) as first, LockClient.from_url(url) as second:
        await together((first, second), wallets, a, b)
        await as_they_come((first, second), wallets, a, b)
    total = sum(wallets.values())
    print(f"nothing lost: a has {wallets[a]}, b has {wallets[b]}, {total} in all")


if __name__ == "__main__":
    with redis_url() as url:
        asyncio.run(main(url))
