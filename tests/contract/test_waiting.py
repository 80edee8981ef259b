"""Who waits, for how long, and in which order."""

import asyncio
import math
from typing import Any

import pytest
from anyio import CancelScope, fail_after, move_on_after

from aiodistlock import AcquireTimeout, LockClient
from tests.contract.world import NEVER, ORDERED, World, free, held, queued, turns


async def test_a_free_lock_is_had_at_once(world: World, first: LockClient, style: str) -> None:
    """Entering and leaving leaves the lock free, as often as one likes."""
    lock = world.lock(first)
    for _ in range(3):
        assert not await lock.locked()
        async with held(lock, style) as lease:
            assert lease.is_held
            assert await lock.locked()
    assert not await lock.locked()


@pytest.mark.needs_queue
@pytest.mark.parametrize("who", ["a task of the same process", "another process"])
async def test_a_release_wakes_the_next(
    world: World, first: LockClient, second: LockClient, style: str, who: str
) -> None:
    """A waiter has the lock as soon as it is released, without polling."""
    lock = world.lock(first)
    waiting = world.lock(second if who == "another process" else first, backoff=NEVER)
    order = []

    async def wait() -> None:
        async with held(waiting, style):
            order.append("next")

    async with held(lock, style):
        task = asyncio.create_task(wait())
        if who == "another process":
            await queued(lock, 1)
        await turns()
        order.append("first")
    with fail_after(5):
        await task
    assert order == ["first", "next"]


@pytest.mark.needs_queue
@pytest.mark.parametrize("world", ORDERED, indirect=True)
async def test_processes_are_served_in_order(
    world: World, processes: list[LockClient], style: str
) -> None:
    """Across processes the lock goes first come, first served."""
    locks = [world.lock(client, backoff=NEVER) for client in processes]
    order: list[int] = []

    async def wait(number: int) -> None:
        async with held(locks[number], style):
            order.append(number)

    async with asyncio.TaskGroup() as group, locks[0]:
        for place, number in enumerate((3, 1, 2)):
            group.create_task(wait(number))
            await queued(locks[0], place + 1)
    assert order == [3, 1, 2]


async def test_tasks_of_a_process_are_served_in_order(
    world: World, first: LockClient, style: str
) -> None:
    """Within a process the lock goes first come, first served."""
    lock = world.lock(first)
    order: list[int] = []

    async def wait(number: int) -> None:
        async with held(lock, style):
            order.append(number)

    async with asyncio.TaskGroup() as group, lock:
        for number in range(20):
            group.create_task(wait(number))
        await turns()
    assert order == list(range(20))


@pytest.mark.parametrize("who", ["the same process", "another process"])
async def test_try_acquire_never_waits(
    world: World, first: LockClient, second: LockClient, who: str
) -> None:
    """A single attempt gives a lease if the lock is free, else ``None``."""
    lock = world.lock(first)
    trying = world.lock(second if who == "another process" else first)
    lease = await lock.try_acquire()
    assert lease is not None
    assert await asyncio.create_task(trying.try_acquire()) is None
    assert (await lock.inspect()).waiters == ()
    await lease.release()
    lease = await trying.try_acquire()
    assert lease is not None
    await lease.release()


async def test_of_many_tries_one_succeeds(
    world: World, first: LockClient, second: LockClient
) -> None:
    """Simultaneous attempts give one lease in all, and leave nobody waiting."""
    locks = [world.lock(first), world.lock(second)]
    found = await asyncio.gather(*(locks[n % 2].try_acquire() for n in range(20)))
    (lease,) = [lease for lease in found if lease is not None]
    await lease.release()
    await free(locks[0])


@pytest.mark.needs_queue
async def test_a_waiter_behind_a_failed_try_still_waits(
    world: World, first: LockClient, second: LockClient
) -> None:
    """A refused attempt takes nobody else along, though both asked in one request."""
    lock, other = world.lock(first), world.lock(second)
    async with asyncio.TaskGroup() as group:
        async with lock:
            trying = group.create_task(other.try_acquire())
            waiting = group.create_task(other.acquire(timeout=5.0))
            assert await trying is None
            await queued(lock, 1)
        await (await waiting).release()


@pytest.mark.needs_queue
@pytest.mark.parametrize("timeout", [0, 0.3])
@pytest.mark.parametrize("who", [0, 1], ids=["the same process", "another process"])
@pytest.mark.parametrize("local_handoffs", [0, 128])
async def test_a_timeout_names_the_holder(
    world: World, processes: list[LockClient], timeout: float, who: int, local_handoffs: int
) -> None:
    """After ``timeout`` the error tells who holds the lock and for how much longer."""
    lock = world.lock(processes[0], ttl=5.0)
    waiting = world.lock(processes[who], local_handoffs=local_handoffs)
    # Connected, so that there is time for an answer.
    assert not await waiting.locked()
    async with lock as lease:
        with pytest.raises(AcquireTimeout, match=lease.token) as caught:
            await asyncio.create_task(waiting.acquire(timeout=timeout))
        error = caught.value
        assert isinstance(error, TimeoutError)
        assert error.name == "wallet"
        assert error.timeout == timeout
        assert error.holder == lease.token
        assert error.holder_ttl is not None
        assert 0 < error.holder_ttl <= 5.0
        # The caller does not wait for its clean-up, which may still be on its way.
        await queued(lock, 0)


@pytest.mark.parametrize("local_handoffs", [0, 128])
async def test_timeout_0_takes_a_free_lock(
    world: World, first: LockClient, style: str, local_handoffs: int
) -> None:
    """A ``timeout`` of 0 is one attempt, which succeeds where the lock is free."""
    lock = world.lock(first, timeout=0, local_handoffs=local_handoffs)
    for _ in range(3):
        async with held(lock, style) as lease:
            assert lease.is_held


async def test_a_timeout_is_kept_and_not_exceeded(
    world: World, first: LockClient, second: LockClient
) -> None:
    """A caller waits as long as it said, no shorter, and not much longer."""
    loop = asyncio.get_running_loop()
    async with world.lock(first):
        began = loop.time()
        with pytest.raises(AcquireTimeout):
            await world.lock(second).acquire(timeout=0.2)
        # The lock is never released; the rest is for a machine with other things to do.
        assert 0.19 <= loop.time() - began < 3.0


async def test_the_lock_has_a_timeout_of_its_own(
    world: World, first: LockClient, second: LockClient
) -> None:
    """The lock's ``timeout`` holds for all ways of acquiring, unless one is given."""
    waiting = world.lock(second, timeout=0.03)
    async with world.lock(first):
        with pytest.raises(AcquireTimeout, match=r"0\.03"):
            await waiting.acquire()
        with pytest.raises(AcquireTimeout, match=r"0\.03"):
            async with waiting:
                pass
        with pytest.raises(AcquireTimeout, match=r"0\.03"):
            async with waiting.hold():
                pass
        with pytest.raises(AcquireTimeout, match=r"0\.01"):
            async with waiting.hold(timeout=0.01):
                pass
        task = asyncio.create_task(waiting.acquire(timeout=None))
        # Longer than the lock's own timeout: which does not count here.
        await asyncio.sleep(0.1)
        assert not task.done()
    await (await task).release()


@pytest.mark.parametrize("timeout", [-1, -0.001, math.nan, math.inf, "1", True], ids=repr)
async def test_a_bad_timeout_is_refused(world: World, first: LockClient, timeout: Any) -> None:
    """A timeout that is no number of seconds from 0 is a ``ValueError``, also late."""
    lock = world.lock(first)
    with pytest.raises(ValueError, match="timeout"):
        await lock.acquire(timeout=timeout)
    with pytest.raises(ValueError, match="timeout"):
        lock.hold(timeout=timeout)
    assert not await lock.locked()


@pytest.mark.needs_queue
@pytest.mark.parametrize("place", [0, 1, 2, 3])
async def test_a_cancelled_task_leaves_and_the_others_keep_their_order(
    world: World, first: LockClient, second: LockClient, place: int
) -> None:
    """A local waiter that is cancelled goes; nobody else notices."""
    lock, waiting = world.lock(second), world.lock(first)
    order: list[int] = []

    async def wait(number: int) -> None:
        async with waiting:
            order.append(number)

    async with lock:
        tasks = [asyncio.create_task(wait(number)) for number in range(4)]
        await queued(lock, 1)
        tasks[place].cancel()
        await asyncio.wait([tasks[place]])
        assert (await lock.inspect()).waiters != ()
    await asyncio.wait(tasks)
    assert tasks[place].cancelled()
    assert order == [number for number in range(4) if number != place]


async def test_the_last_waiter_takes_its_place_in_the_queue_along(
    world: World, first: LockClient, second: LockClient, style: str
) -> None:
    """A cancelled wait leaves nothing at the store."""
    lock, waiting = world.lock(first), world.lock(second)
    async with lock:
        with move_on_after(0.05) as scope:
            async with held(waiting, style):
                raise AssertionError("the lock is held")
        assert scope.cancelled_caught
        await queued(lock, 0)
    await free(lock)


@pytest.mark.needs_queue
@pytest.mark.parametrize("who", ["the same process", "another process"])
async def test_a_waiter_cancelled_as_its_turn_comes_hands_the_lock_on(
    world: World, first: LockClient, second: LockClient, who: str
) -> None:
    """A lease granted to a task in the turn of its cancellation is not lost."""
    lock = world.lock(first)
    waiting = world.lock(second if who == "another process" else first)
    for steps in range(6):
        lease = await lock.acquire()
        task = asyncio.create_task(waiting.acquire())
        if who == "another process":
            await queued(lock, 1)
        await turns()
        release = asyncio.create_task(lease.release())
        await turns(steps)
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            await task.result().release()
        await release
        await free(lock)


async def test_a_task_cancelled_beforehand_acquires_nothing(
    world: World, first: LockClient, style: str
) -> None:
    """An acquire under a cancellation that came before is undone."""
    lock = world.lock(first)
    with CancelScope() as scope:
        scope.cancel()
        async with held(lock, style):
            raise AssertionError("cancelled before")
    await free(lock)


async def test_waiters_and_those_who_leave_do_not_pile_up(world: World, first: LockClient) -> None:
    """Thousands of waits that time out behind one holder leave the next its turn."""
    lock = world.lock(first)
    async with lock:
        stays = asyncio.create_task(lock.acquire())
        await turns()
        for _ in range(20):
            tasks = [asyncio.create_task(lock.acquire()) for _ in range(50)]
            await turns(1)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
    await (await stays).release()
