"""Blocks that end elsewhere than they began: in another task, by another way."""

# ruff: noqa: PT012 - how a whole block ends is what is tested

import asyncio
import gc
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import pytest

from aiodistlock import AsyncLock, Lease, LeaseLost, LockClient, LockError, NotHeld
from tests.contract.world import World, free, turns
from tests.faults.world import lose

LONG = 30.0
"""Seconds that no test waits for."""

pytestmark = pytest.mark.parametrize("world", ["memory", "resp3"], indirect=True)


@pytest.fixture
def lock(world: World, first: LockClient) -> AsyncLock:
    """The lock that all blocks of a test are on."""
    return world.lock(first)


@pytest.fixture(params=["async with lock", "lock.hold()", "async with lease"])
def way(request: pytest.FixtureRequest) -> str:
    """How a block is entered."""
    way: str = request.param
    return way


async def items(lock: AsyncLock, way: str) -> AsyncGenerator[Lease, None]:
    """Yield the lease, in a block on the lock."""
    if way == "async with lock":
        async with lock as lease:
            yield lease
    elif way == "lock.hold()":
        async with lock.hold() as lease:
            yield lease
    else:
        async with await lock.acquire() as lease:
            yield lease


async def test_a_lease_that_is_over_before_its_block_is_given_back(lock: AsyncLock) -> None:
    """Whoever stood still between the two has nothing else to release it by."""
    lease = await lock.acquire()
    lease._process_lease.deadline = 0.0
    with pytest.raises(LeaseLost, match="deadline"):
        async with lease:
            raise AssertionError("it is entered")
    del lease
    gc.collect()  # a ResourceWarning, if it were only dropped, would fail the test
    with anyio.fail_after(5):
        await free(lock)


async def test_a_generator_that_its_consumer_breaks_off_gives_the_lock_up(
    lock: AsyncLock, way: str
) -> None:
    """The loop closes it in a task of its own."""
    async for lease in items(lock, way):
        assert lease.is_held
        break
    gc.collect()
    with anyio.fail_after(5):
        await free(lock)
    assert not lock._open_blocks
    with pytest.raises(NotHeld):
        lease.check()


async def test_a_block_may_be_left_by_another_task(lock: AsyncLock, way: str) -> None:
    """As a fixture is, whose halves run in tasks of their own."""
    generator = items(lock, way)
    lease = await asyncio.create_task(_first(generator))
    assert lease.is_held
    await asyncio.create_task(_close(generator))
    with pytest.raises(NotHeld):
        lease.check()
    async with lock.hold(timeout=0):
        pass


@pytest.mark.parametrize("ended", [True, False])
async def test_a_stack_may_be_closed_by_another_task(lock: AsyncLock, ended: bool) -> None:
    """Whether the task that entered it has ended or not: it is the only open block."""
    stack, go_on = AsyncExitStack(), asyncio.Event()

    async def enter() -> Lease:
        lease = await stack.enter_async_context(lock)
        entered.set()
        if not ended:
            await go_on.wait()
        return lease

    entered = asyncio.Event()
    entering = asyncio.create_task(enter())
    await entered.wait()
    await stack.aclose()
    async with lock.hold(timeout=0):
        go_on.set()
        with pytest.raises(NotHeld):
            (await entering).check()


async def test_the_block_that_is_left_is_the_block_that_was_entered(
    world: World, first: LockClient
) -> None:
    """Not one that the leaving task happens to be in: that one's lease is kept."""
    lock = world.lock(first, on_lost="signal")
    generator = items(lock, "async with lock")
    lost = await asyncio.create_task(_first(generator))
    lose(lost)
    await _give_up(lost)
    async with lock as lease:
        with pytest.raises(LeaseLost):
            await anext(generator)
        assert lease.is_held


async def _first(generator: AsyncGenerator[Lease, None]) -> Lease:
    return await anext(generator)


async def _close(generator: AsyncGenerator[Lease, None]) -> None:
    await generator.aclose()


async def _give_up(lost: Lease) -> None:
    """Free the key of a lease that is lost to us only."""
    await lost._process_lease.possessor.release_at_redis(lost._process_lease)


async def test_reentrant_blocks_may_end_in_another_order(world: World, first: LockClient) -> None:
    """The inner one, in a generator that is left open, keeps the lock until it is closed."""
    lock = world.lock(first, reentrant=True)
    async with lock as lease:
        generator = items(lock, "async with lock")
        assert await anext(generator) is lease
    assert lease.is_held
    await asyncio.create_task(_close(generator))
    assert lease.validity == 0.0
    async with lock.hold(timeout=0):
        pass


async def test_where_it_cannot_be_told_the_lease_is_given_up(
    world: World, first: LockClient
) -> None:
    """A third task leaves one of two blocks: neither is kept, and the error names hold()."""
    lock = world.lock(first, on_lost="signal")
    one, two = AsyncExitStack(), AsyncExitStack()
    lost = await asyncio.create_task(one.enter_async_context(lock))
    lose(lost)
    await _give_up(lost)
    lease = await asyncio.create_task(two.enter_async_context(lock))
    with pytest.raises(LockError, match=r"hold\(\)"):
        await two.aclose()
    with pytest.raises(LeaseLost):
        lease.check()
    async with lock.hold(timeout=5):
        pass


async def test_who_iterates_a_generator_is_a_stranger_between_two_items(
    lock: AsyncLock, way: str
) -> None:
    """It is not cancelled by the loss, which is told when the generator goes on."""
    generator = items(lock, way)
    lease = await anext(generator)
    lose(lease)
    await asyncio.sleep(0.05)  # real time: a late cancellation would strike here
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    with pytest.raises(LeaseLost):
        await anext(generator)


async def test_a_generators_own_await_is_cancelled(lock: AsyncLock) -> None:
    """There the iterating task is in the body."""

    async def slow() -> AsyncGenerator[None, None]:
        async with lock as lease:
            asyncio.get_running_loop().call_soon(lose, lease)
            yield
            await asyncio.sleep(LONG)

    generator = slow()
    await anext(generator)
    await turns(5)
    with anyio.fail_after(5), pytest.raises(LeaseLost):
        await anext(generator)


async def test_the_body_of_a_context_manager_is_the_blocks(lock: AsyncLock, way: str) -> None:
    """It is cancelled, and the generator gets that and raises LeaseLost."""

    @asynccontextmanager
    async def managed() -> AsyncIterator[Lease]:
        if way == "async with lock":
            async with lock as lease:
                yield lease
        elif way == "lock.hold()":
            async with lock.hold() as lease:
                yield lease
        else:
            async with await lock.acquire() as lease:
                yield lease

    with anyio.fail_after(5), pytest.raises(LeaseLost):
        async with managed() as lease:
            lose(lease)
            await asyncio.sleep(LONG)


async def test_a_leases_own_block_releases_it(lock: AsyncLock) -> None:
    """As a block on the lock; it cannot be entered again."""
    async with await lock.acquire() as lease:
        assert lease.is_held
    with pytest.raises(NotHeld):
        async with lease:
            pass
    async with lock.hold(timeout=0) as lease, lease:
        pass
    assert not lease.is_held


async def test_a_leases_own_block_is_cancelled_by_its_loss(lock: AsyncLock) -> None:
    """And raises it; a lease that is lost before is not entered."""
    with anyio.fail_after(5), pytest.raises(LeaseLost):
        async with await lock.acquire() as lease:
            lose(lease)
            await asyncio.sleep(LONG)
    with pytest.raises(LeaseLost):
        async with lease:
            pass


@pytest.mark.parametrize("grouped", [False, True])
async def test_a_loss_that_the_body_tells_of_is_told_once(lock: AsyncLock, grouped: bool) -> None:
    """What lease.check() raises gets no note that says the same."""
    with pytest.raises((LeaseLost, ExceptionGroup)) as caught:
        async with lock as lease:
            lose(lease)
            try:
                lease.check()
            except LeaseLost as error:
                if grouped:
                    raise ExceptionGroup("of the body", [error]) from None
                raise
    assert not getattr(caught.value, "__notes__", [])
