"""A lease that is over before its task could run is not entered."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
import redis.asyncio as redis_asyncio

from aiodistlock import AsyncLock, Lease, LockClient
from aiodistlock.compat.redis_py import RedisPyLock
from tests.contract.world import World

TTL = 0.6
STALL = 1.0
"""Seconds for which the event loop is busy: longer than the ttl."""

WORLDS = pytest.mark.parametrize("world", ["memory", "resp3", "resp2"], indirect=True)


async def by_block(lock: AsyncLock) -> Lease:
    """Enter a block, and leave it open: what it shows counts."""
    return await lock.__aenter__()


async def by_hold(lock: AsyncLock) -> Lease:
    """Enter a block that :meth:`AsyncLock.hold` built."""
    return await lock.hold().__aenter__()


async def by_acquire(lock: AsyncLock) -> Lease:
    """Acquire by hand."""
    return await lock.acquire()


async def by_acquire_in_time(lock: AsyncLock) -> Lease:
    """Acquire with a timeout that the stall uses up."""
    return await lock.acquire(timeout=STALL / 2)


async def by_try_acquire(lock: AsyncLock) -> Lease:
    """Try once."""
    lease = await lock.try_acquire()
    assert lease is not None
    return lease


WAYS = [by_block, by_hold, by_acquire, by_acquire_in_time, by_try_acquire]
Way = Callable[[AsyncLock], Awaitable[Lease]]


@WORLDS
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_a_lease_that_ran_out_before_its_entry_is_acquired_again(
    world: World, first: LockClient, caplog: pytest.LogCaptureFixture, way: Way
) -> None:
    """A task that was woken with it keeps the loop busy for longer than the ttl."""
    stalling, lock = (world.lock(first, name, ttl=TTL) for name in ("stalling", "wallet"))
    await (await lock.acquire()).release()

    async def stall() -> None:
        lease = await stalling.acquire()
        time.sleep(STALL)  # the stall is what is tested
        with anyio.CancelScope(shield=True):
            await lease._release(hurry=True)

    async def enter() -> None:
        lease = await way(lock)
        assert lease.is_held
        assert not lease._lost_reason
        await lease.release()

    with anyio.fail_after(20):
        await asyncio.gather(stall(), enter())
    assert any("was over before it could be used" in line for line in caplog.messages)


@WORLDS
@pytest.mark.parametrize("way", WAYS[:3], ids=lambda way: way.__name__)
async def test_a_local_hand_off_that_is_stalled_is_not_entered(
    world: World, first: LockClient, way: Way
) -> None:
    """The task that released the lock goes on for longer than the ttl, without an await."""
    lock = world.lock(first, ttl=TTL)
    entered: list[bool] = []

    async def enter() -> None:
        lease = await way(lock)
        entered.append(lease.is_held)
        await lease.release()

    lease = await lock.acquire()
    entering = asyncio.create_task(enter())
    await asyncio.sleep(0)
    await lease.release()
    time.sleep(STALL)  # the stall is what is tested
    with anyio.fail_after(20):
        await entering
    assert entered == [True]


@pytest.mark.parametrize("world", ["resp3"], indirect=True)
async def test_a_lock_of_redis_pys_kind_is_acquired_again_too(world: World, redis_url: str) -> None:
    """As AsyncLock: what ``acquire`` says is true when it says so."""
    async with redis_asyncio.from_url(redis_url) as redis:
        stalling, lock = (
            RedisPyLock(redis, f"{world.namespace}{name}", timeout=TTL)
            for name in ("stalling", "wallet")
        )

        async def stall() -> None:
            await stalling.acquire()
            time.sleep(STALL)  # the stall is what is tested

        async def enter() -> Any:
            await lock.acquire()
            return await lock.owned()

        with anyio.fail_after(20):
            _, owned = await asyncio.gather(stall(), enter())
        assert owned
        await lock.release()
