"""Every lease has a higher fencing token than all before it."""

import asyncio
from itertools import pairwise

from aiodistlock import AsyncLock, LockClient
from tests.contract.world import World, held


async def _fence(lock: AsyncLock) -> int:
    async with lock as lease:
        return lease.fencing_token


async def test_fencing_tokens_rise(
    world: World, first: LockClient, second: LockClient, style: str
) -> None:
    """Each lease has a higher fencing token than all before: free, queued or handed on."""
    lock, other = world.lock(first), world.lock(second)
    fences: list[int] = []

    async def hold(which: AsyncLock) -> None:
        async with held(which, style) as lease:
            fences.append(lease.fencing_token)
            await asyncio.sleep(0)

    await hold(lock)
    await hold(other)
    async with asyncio.TaskGroup() as group:
        for _ in range(10):
            group.create_task(hold(lock))
            group.create_task(hold(other))
    await hold(lock)
    assert len(fences) == 23
    assert all(one < other for one, other in pairwise(fences))
    assert 0 < fences[0] < fences[-1] < 2**53


async def test_the_store_knows_the_fencing_token_of_a_lease(
    world: World, first: LockClient, second: LockClient
) -> None:
    """That with which it began; local hand-offs may be ahead of it, and a free lock has none."""
    lock, other = world.lock(first), world.lock(second)
    async with lock as lease:
        waiting = asyncio.create_task(_fence(lock))
        info = await other.inspect()
        assert (info.holder, info.fencing_token) == (lease.token, lease.fencing_token)
    assert await waiting > lease.fencing_token
    assert (await other.inspect()).fencing_token is None


async def test_leases_have_tokens_of_their_own(
    world: World, first: LockClient, second: LockClient
) -> None:
    """No two acquisitions at the store have the same token."""
    tokens = set()
    for client in (first, second, first):
        async with world.lock(client) as lease:
            tokens.add(lease.token)
    assert len(tokens) == 3
