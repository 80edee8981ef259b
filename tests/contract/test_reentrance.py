"""A task that comes again for a lock that it holds."""

import asyncio

import pytest

from aiodistlock import AcquireTimeout, LeaseLost, LockClient, LockError, NotHeld
from tests.contract.world import World, held, turns


async def test_without_reentrance_waiting_for_oneself_is_an_error(
    world: World, first: LockClient, style: str
) -> None:
    """A task that would wait for itself gets an error at once, and keeps its lease."""
    lock = world.lock(first)
    async with held(lock, style) as lease:
        for again in (lock, world.lock(first, local_handoffs=0)):
            with pytest.raises(LockError, match="reentrant") as caught:
                async with held(again, style):
                    raise AssertionError("that cannot be")
            assert type(caught.value) is LockError
        assert lease.is_held
        assert await lock.try_acquire() is None
        with pytest.raises(AcquireTimeout):
            await lock.acquire(timeout=0)
    assert not await lock.locked()


async def test_a_child_task_is_another_task(world: World, first: LockClient) -> None:
    """Only the very task that holds the lock is refused; its children wait."""
    lock = world.lock(first)

    async def child() -> None:
        async with lock:
            pass

    async with lock:
        task = asyncio.create_task(child())
        await turns()
        assert not task.done()
    await task


async def test_a_reentrant_lock_gives_the_same_lease_again(
    world: World, first: LockClient, style: str
) -> None:
    """Nested blocks share one lease, which ends with the outermost."""
    lock = world.lock(first, reentrant=True)
    async with held(lock, style) as outer:
        for _ in range(2):
            async with held(lock, style) as middle, held(lock, style) as inner:
                assert outer is middle is inner
                assert await lock.locked()
            assert outer.is_held
            assert await lock.locked()
        again = await lock.try_acquire()
        assert again is outer
        await again.release()
        assert outer.is_held
    assert not await lock.locked()
    with pytest.raises(NotHeld):
        await outer.release()


async def test_reentrance_is_by_name(world: World, first: LockClient) -> None:
    """Another lock object with the same name is the same lock."""
    one, other = world.lock(first, reentrant=True), world.lock(first, reentrant=True)
    async with one as outer, other as inner:
        assert inner is outer
        assert inner.fencing_token == outer.fencing_token
    assert not await one.locked()


@pytest.mark.parametrize("local_handoffs", [0, 128])
async def test_reentrance_excludes_other_tasks(
    world: World, first: LockClient, second: LockClient, local_handoffs: int
) -> None:
    """Whoever is not the holding task waits until the outermost block has ended."""
    lock = world.lock(first, reentrant=True, local_handoffs=local_handoffs)
    other = world.lock(second, reentrant=True)
    inside = True

    async def wait(which: object) -> None:
        async with lock if which is first else other:
            assert not inside

    async with asyncio.TaskGroup() as group, lock:
        async with lock:
            group.create_task(wait(first))
            group.create_task(wait(second))
            await turns(20)
        assert await asyncio.create_task(lock.try_acquire()) is None
        assert await other.try_acquire() is None
        await turns(20)
        inside = False


async def test_a_cancelled_inner_block_leaves_the_outer_its_lease(
    world: World, first: LockClient, style: str
) -> None:
    """An exception in an inner block ends that block only."""
    lock = world.lock(first, reentrant=True)
    async with held(lock, style) as lease:
        with pytest.raises(ZeroDivisionError):
            async with held(lock, style):
                1 / 0  # noqa: B018 - the body's own error
        assert lease.is_held
        assert await lock.locked()
    assert not await lock.locked()


async def test_the_loss_of_a_reentrant_lease_ends_the_outermost_block(
    world: World, first: LockClient
) -> None:
    """A loss cancels all nested blocks, and each raises ``LeaseLost``."""
    lock = world.lock(first, reentrant=True, max_hold=0.05)
    inner_ended = False
    with pytest.raises(LeaseLost):  # noqa: PT012 - the block raises
        async with lock:
            try:
                async with lock:
                    await asyncio.Event().wait()
            finally:
                inner_ended = True
    assert inner_ended
    assert not await lock.locked()


async def test_a_lease_by_hand_may_be_entered(world: World, first: LockClient) -> None:
    """A block inside of a lease acquired by hand leaves it to the hand."""
    lock = world.lock(first, reentrant=True)
    lease = await lock.acquire()
    async with lock as inner:
        assert inner is lease
    assert lease.is_held
    await lease.release()
    assert not await lock.locked()
