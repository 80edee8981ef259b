"""Losing a lease on purpose, as users' tests do: the same in memory and on Redis."""

import asyncio
from typing import Any

import anyio
import pytest

from aiodistlock import AsyncLock, LeaseLost, LockClient, NotHeld
from aiodistlock.testing import lose_lease
from tests.contract.world import HOUR, World, free


async def test_the_body_is_cancelled_and_the_block_raises(world: World, first: LockClient) -> None:
    """As in production: cancelled at its next await, then ``LeaseLost`` with the reason."""
    steps: list[str] = []

    async def work(lock: AsyncLock) -> None:
        async with lock as lease:
            try:
                lose_lease(lease, "an operator's hand slipped")
                steps.append("goes on to its next await")
                await asyncio.sleep(HOUR)
            except asyncio.CancelledError:
                steps.append("cancelled")
                assert not lease.is_held
                raise

    lock = world.lock(first)
    with pytest.raises(LeaseLost, match="hand slipped") as lost:
        await work(lock)
    assert steps == ["goes on to its next await", "cancelled"]
    assert lost.value.reason == "an operator's hand slipped"
    await free(lock)


@pytest.mark.parametrize("options", [{}, {"local_handoffs": 0}, {"auto_renew": False}])
async def test_a_lock_of_the_same_name_finds_the_lease(
    world: World, first: LockClient, options: dict[str, Any]
) -> None:
    """The test builds its own lock: it need not get at the one in the code under test."""
    held = asyncio.Event()

    async def work() -> None:
        async with world.lock(first, **options):
            held.set()
            await asyncio.sleep(HOUR)

    task = asyncio.create_task(work())
    await held.wait()
    lose_lease(world.lock(first))
    with pytest.raises(LeaseLost, match="its key is gone"):
        await task
    await free(world.lock(first))


async def test_the_next_waiter_gets_in_while_the_body_still_cleans_up(
    world: World, first: LockClient, second: LockClient
) -> None:
    """The lock is gone from the holder, wherever it stands in its code."""
    entered = asyncio.Event()

    async def work() -> None:
        async with world.lock(first) as lease:
            lose_lease(lease)
            try:
                await asyncio.sleep(HOUR)
            finally:
                with anyio.CancelScope(shield=True):
                    await entered.wait()

    async def work_after() -> None:
        async with world.lock(second, timeout=5.0):  # less than the ttl
            entered.set()

    async with asyncio.TaskGroup() as group:
        task = asyncio.create_task(work())
        group.create_task(work_after())
    with pytest.raises(LeaseLost):
        await task
    await free(world.lock(first))


async def test_a_local_waiter_gets_the_lock(world: World, first: LockClient) -> None:
    """Tasks of the same process contend anew, under a higher fencing token."""
    lock = world.lock(first)
    lease = await lock.acquire()
    waiting = asyncio.create_task(lock.acquire())
    await asyncio.sleep(0)
    lose_lease(lease)
    next_lease = await waiting
    assert next_lease.fencing_token > lease.fencing_token
    assert await lease.wait_lost()
    await next_lease.release()


async def test_a_signal_cancels_nothing(world: World, first: LockClient) -> None:
    """With ``on_lost="signal"`` the lease only tells; the block raises at its end."""
    told: list[bool] = []

    async def work() -> None:
        async with world.lock(first, on_lost="signal") as lease:
            lose_lease(lease)
            told.append(await lease.wait_lost())
            assert not lease.is_held

    with pytest.raises(LeaseLost):
        await work()
    assert told == [True]
    await free(world.lock(first))


async def test_what_is_not_held_cannot_be_lost(world: World, first: LockClient) -> None:
    """Lost twice, lost after its release, or held by nobody: an error that says so."""
    lock = world.lock(first)
    with pytest.raises(ValueError, match="nobody holds 'wallet' on this client"):
        lose_lease(lock)
    lease = await lock.acquire()
    lose_lease(lease)
    with pytest.raises(LeaseLost):
        lose_lease(lease)
    await free(lock)
    released = await lock.acquire()
    await released.release()
    with pytest.raises(NotHeld):
        lose_lease(released)
