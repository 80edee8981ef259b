"""So many at a time: semaphores, wherever they are kept."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from anyio import CancelScope, fail_after, move_on_after

from aiodistlock import (
    AcquireTimeout,
    LeaseLost,
    LockClient,
    LockError,
    NotHeld,
    Semaphore,
    SemaphoreLease,
    StoreUnavailable,
)
from tests.contract.world import HOUR, NEVER, ORDERED, World, turns

pytestmark = pytest.mark.parametrize("world", ORDERED, indirect=True)

Make = Callable[..., Semaphore]


@pytest.fixture
def make(world: World) -> Make:
    """Make a semaphore in the test's own namespace."""

    def make(client: LockClient, limit: int = 2, name: str = "gpu", **options: Any) -> Semaphore:
        return client.semaphore(name, limit, namespace=world.namespace, **options)

    return make


async def waiting(semaphore: Semaphore, count: int) -> None:
    """Wait until so much is waited for at the store; each look is a round trip."""
    with fail_after(HOUR / 60):
        while len((await semaphore.inspect()).waiters) != count:
            await asyncio.sleep(0)


async def free(semaphore: Semaphore) -> None:
    """Wait until nobody holds a permit, or waits."""
    with fail_after(HOUR / 60):
        while True:
            info = await semaphore.inspect()
            if not info.leases and not info.waiters:
                return
            await asyncio.sleep(0)


async def test_as_many_hold_as_the_limit_says(
    make: Make, first: LockClient, second: LockClient
) -> None:
    """The first so many are in together, over all processes, the next one is not."""
    one, other = make(first), make(second)
    async with one as a, other as b:
        assert a.slot == 0
        assert b.slot == 1
        assert (await one.inspect()).held == 2
        assert await asyncio.create_task(one.try_acquire()) is None
        assert await other.try_acquire() is None
        with pytest.raises(AcquireTimeout, match="held by"):
            await other.acquire(timeout=0)
    async with other as lease:
        assert lease.slots == (0,)
    await free(one)


async def test_one_task_may_hold_several(make: Make, first: LockClient) -> None:
    """A task has as many leases as it asks for; the lowest free number is the next one's."""
    semaphore = make(first, 3)
    leases = [await semaphore.acquire() for _ in range(3)]
    assert [lease.slot for lease in leases] == [0, 1, 2]
    await leases[1].release()
    again = await semaphore.acquire()
    assert again.slot == 1
    for lease in (leases[0], again, leases[2]):
        await lease.release()
    with pytest.raises(NotHeld):
        await again.release()
    await free(semaphore)


async def test_several_permits_are_had_together_or_not_at_all(
    make: Make, first: LockClient, second: LockClient
) -> None:
    """Of three permits two go to one lease; another two are not to be had."""
    one, other = make(first, 3), make(second, 3)
    async with one.hold(permits=2) as lease:
        assert lease.slots == (0, 1)
        assert await other.try_acquire(permits=2) is None
        single = await other.try_acquire()
        assert single is not None
        assert single.slot == 2
    more = await other.try_acquire(permits=2)
    assert more is not None
    assert more.slots == (0, 1)
    await more.release()
    await single.release()
    await free(one)


@pytest.mark.needs_queue
@pytest.mark.parametrize("who", ["a task of the same process", "another process"])
async def test_a_released_permit_goes_to_the_next(
    make: Make, first: LockClient, second: LockClient, who: str
) -> None:
    """Whoever waits has it as soon as it is released, without polling."""
    semaphore = make(first)
    other = make(second if who == "another process" else first, backoff=NEVER)
    a, b = await semaphore.acquire(), await semaphore.acquire()
    task = asyncio.create_task(other.acquire())
    await waiting(semaphore, 1)
    await a.release()
    with fail_after(10):
        lease = await task
    assert lease.slot == 0
    await lease.release()
    await b.release()
    await free(semaphore)


@pytest.mark.needs_queue
async def test_who_wants_several_is_not_overtaken(make: Make, processes: list[LockClient]) -> None:
    """A heavy one at the head has the lighter ones behind it wait, though they would fit."""
    one, heavy, light = (make(client, 2, backoff=NEVER) for client in processes[:3])
    order: list[str] = []

    async def hold(semaphore: Semaphore, permits: int, name: str) -> None:
        async with semaphore.hold(permits=permits):
            order.append(name)

    lease, other = await one.acquire(), await one.acquire()
    async with asyncio.TaskGroup() as group:
        group.create_task(hold(heavy, 2, "heavy"))
        await waiting(one, 1)
        group.create_task(hold(light, 1, "light"))
        await waiting(one, 2)
        await lease.release()
        for _ in range(10):
            assert (await one.inspect()).held == 1
        assert order == []
        await other.release()
    assert order == ["heavy", "light"]
    await free(one)


@pytest.mark.needs_queue
async def test_a_heavy_one_that_leaves_lets_the_others_in(
    make: Make, processes: list[LockClient]
) -> None:
    """Who was only behind it has its permit at once."""
    one, heavy, light = (make(client, 2, backoff=NEVER) for client in processes[:3])
    async with one:
        leaving = asyncio.create_task(heavy.acquire(permits=2))
        await waiting(one, 1)
        task = asyncio.create_task(light.acquire())
        await waiting(one, 2)
        leaving.cancel()
        with fail_after(10):
            lease = await task
        await lease.release()
    await free(one)


@pytest.mark.needs_queue
async def test_processes_are_served_in_order(make: Make, processes: list[LockClient]) -> None:
    """Whoever came first has its permits first, whatever it wants."""
    semaphores = [make(client, 3, backoff=NEVER) for client in processes]
    fences: dict[int, int] = {}

    async def wait(number: int) -> None:
        async with semaphores[number % 4].hold(permits=1 + number % 3) as lease:
            fences[number] = lease.fencing_token

    async with asyncio.TaskGroup() as group, semaphores[0].hold(permits=3):
        for number in range(4):
            group.create_task(wait(number))
            await waiting(semaphores[0], number + 1)
    assert sorted(fences, key=lambda number: fences[number]) == list(range(4))
    await free(semaphores[0])


async def test_tasks_of_a_process_are_served_in_order(make: Make, first: LockClient) -> None:
    """Within a process permits go first come, first served."""
    semaphore = make(first, 1)
    order: list[int] = []

    async def wait(number: int) -> None:
        async with semaphore:
            order.append(number)

    async with asyncio.TaskGroup() as group, semaphore:
        for number in range(20):
            group.create_task(wait(number))
        await turns()
    assert order == list(range(20))


async def test_never_more_than_the_limit(make: Make, processes: list[LockClient]) -> None:
    """Many tasks of several processes: as many inside as there are permits, no slot twice."""
    inside: set[int] = set()
    most = 0

    async def visit(semaphore: Semaphore, permits: int) -> None:
        nonlocal most
        async with semaphore.hold(permits=permits) as lease:
            assert not inside & set(lease.slots)
            inside.update(lease.slots)
            most = max(most, len(inside))
            for _ in range(3):
                await asyncio.sleep(0)
            inside.difference_update(lease.slots)

    semaphores = [make(client, 3) for client in processes]
    with fail_after(60):
        async with asyncio.TaskGroup() as group:
            for number in range(60):
                group.create_task(visit(semaphores[number % 4], 1 + number % 2))
    assert 0 < most <= 3
    await free(semaphores[0])


async def test_fencing_tokens_of_a_slot_rise(make: Make, processes: list[LockClient]) -> None:
    """Whoever has a slot has a higher token than whoever had it before."""
    last: dict[int, int] = {}

    async def visit(semaphore: Semaphore) -> None:
        async with semaphore as lease:
            assert lease.fencing_token > last.get(lease.slot, 0)
            last[lease.slot] = lease.fencing_token
            await asyncio.sleep(0)

    semaphores = [make(client, 3) for client in processes]
    with fail_after(60):
        async with asyncio.TaskGroup() as group:
            for number in range(80):
                group.create_task(visit(semaphores[number % 4]))
    # Where processes poll, there may never be three at a time.
    assert {0} <= set(last) <= {0, 1, 2}


async def test_of_many_tries_as_many_succeed_as_there_are_permits(
    make: Make, first: LockClient, second: LockClient
) -> None:
    """Simultaneous attempts get all permits together, and leave nobody waiting."""
    semaphores = [make(first, 5), make(second, 5)]
    found = await asyncio.gather(*(semaphores[n % 2].try_acquire() for n in range(20)))
    leases = [lease for lease in found if lease is not None]
    assert sorted(lease.slot for lease in leases) == [0, 1, 2, 3, 4]
    for lease in leases:
        await lease.release()
    await free(semaphores[0])


@pytest.mark.needs_queue
async def test_limits_may_differ(make: Make, first: LockClient, second: LockClient) -> None:
    """Each lease is judged by the limit of who asks: none is revoked, the lower one waits."""
    high, low = make(first, 4), make(second, 2, backoff=NEVER)
    leases = [await high.acquire() for _ in range(4)]
    assert await low.try_acquire() is None
    task = asyncio.create_task(low.acquire())
    await waiting(high, 1)
    await leases[0].release()
    await leases[1].release()
    assert (await high.inspect()).held == 2
    await leases[2].release()
    with fail_after(10):
        lease = await task
    assert lease.slot == 0
    assert leases[3].is_held
    await lease.release()
    await leases[3].release()
    await free(high)


@pytest.mark.needs_queue
@pytest.mark.parametrize("place", [0, 1, 2, 3])
async def test_a_cancelled_task_leaves_and_the_others_keep_their_order(
    make: Make, first: LockClient, second: LockClient, place: int
) -> None:
    """A local waiter that is cancelled goes; nobody else notices."""
    other, semaphore = make(second, 1), make(first, 1, backoff=NEVER)
    order: list[int] = []

    async def wait(number: int) -> None:
        async with semaphore:
            order.append(number)

    async with other:
        tasks = [asyncio.create_task(wait(number)) for number in range(4)]
        await waiting(other, 1)
        tasks[place].cancel()
        await asyncio.wait([tasks[place]])
        await waiting(other, 1)
    with fail_after(10):
        await asyncio.wait(tasks)
    assert tasks[place].cancelled()
    assert order == [number for number in range(4) if number != place]
    await free(other)


@pytest.mark.parametrize("steps", range(12))
async def test_cancelled_anywhere_nothing_stays(
    make: Make, first: LockClient, second: LockClient, steps: int
) -> None:
    """At whichever turn of the loop it is cancelled: no permit is lost, no place kept."""
    semaphore, other = make(first, 2), make(second, 2)

    async def hold(permits: int) -> None:
        async with semaphore.hold(permits=permits):
            await asyncio.sleep(0)

    holding = asyncio.create_task(hold(1))
    tasks = [asyncio.create_task(hold(1 + number % 2)) for number in range(4)]
    await turns(steps)
    for task in tasks:
        task.cancel()
    with fail_after(30):
        await asyncio.wait([holding, *tasks])
        async with other.hold(permits=2) as lease:
            assert lease.slots == (0, 1)
    await free(other)


async def test_the_last_waiter_takes_its_place_along(
    make: Make, first: LockClient, second: LockClient
) -> None:
    """A wait that times out leaves nothing at the store."""
    semaphore, other = make(first, 1), make(second, 1)
    async with semaphore:
        with move_on_after(0.05) as scope:
            async with other:
                raise AssertionError("it is held")
        assert scope.cancelled_caught
        with pytest.raises(AcquireTimeout):
            await other.acquire(timeout=0.05)
        await waiting(semaphore, 0)
    await free(semaphore)


async def test_a_lease_lives_on_while_it_is_held(
    make: Make, first: LockClient, second: LockClient
) -> None:
    """It is renewed, each for itself, and ``extend`` sets what is left."""
    semaphore, other = make(first, 2, ttl=1.0), make(second, 2)
    async with semaphore as lease, semaphore as more:
        await asyncio.sleep(1.5)  # longer than the ttl: that is what is tested
        assert lease.is_held
        assert more.is_held
        await lease.extend(30.0)
        assert lease.validity > 20.0
        assert await other.try_acquire() is None
    await free(other)


async def test_who_is_lost_frees_its_permit_only(
    make: Make, first: LockClient, second: LockClient
) -> None:
    """A lease that ends has its own body cancelled, nobody else's."""
    semaphore, other = make(first, 2, ttl=30.0), make(second, 2)
    async with semaphore as lease:
        with pytest.raises(LeaseLost, match="max_hold"):
            async with make(first, 2, max_hold=0.1):
                await asyncio.sleep(HOUR)
        assert lease.is_held
        async with other as more:
            assert more.slot == 1
    await free(other)


async def test_a_closed_client_gives_its_permits_back(
    world: World, make: Make, first: LockClient
) -> None:
    """Closing releases what is held, and ends the waits."""
    closing = world.open()
    semaphore = make(closing, 1, ttl=HOUR)

    async def hold(began: asyncio.Event) -> None:
        async with semaphore:
            began.set()
            await asyncio.sleep(HOUR)

    began = asyncio.Event()
    holding = asyncio.create_task(hold(began))
    await began.wait()
    waits = asyncio.create_task(semaphore.acquire())
    await turns()
    await closing.aclose()
    with pytest.raises(LeaseLost):
        await holding
    with pytest.raises(LockError, match="closed"):
        await waits
    with fail_after(30):
        async with make(first, 1):
            pass
    await free(make(first, 1))


async def test_a_closed_client_gives_back_what_no_block_holds(
    world: World, make: Make, first: LockClient
) -> None:
    """Closing releases permits that were acquired by hand; whoever has them is told."""
    closing = world.open()
    one, two = [await make(closing, 3, ttl=HOUR).acquire(permits=count) for count in (1, 2)]
    await closing.aclose()
    for lease in (one, two):
        with pytest.raises(LeaseLost, match="closed"):
            lease.check()
    with fail_after(30):
        async with make(first, 3).hold(permits=3):
            pass
    await free(make(first, 1))


async def test_who_is_left_when_a_request_is_refused_is_told(
    make: Make, first: LockClient, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where nothing is wanted any more of what was asked for; the connection stays."""
    semaphore = make(first)
    async with world.lock(first, "gpu"):
        leaving = asyncio.create_task(semaphore.acquire())
        staying = asyncio.create_task(semaphore.acquire(permits=2))
        await asyncio.sleep(0)
        leaving.cancel()
        with fail_after(HOUR / 60), pytest.raises(StoreUnavailable, match=r"lock|WRONGTYPE"):
            await staying
        await asyncio.wait([leaving])
    assert "no connection" not in caplog.text
    await free(semaphore)


async def test_a_lock_of_the_same_name_is_refused(
    world: World, make: Make, first: LockClient, second: LockClient
) -> None:
    """Neither shares with the other by mistake: the error says that it is another kind."""
    semaphore, lock = make(first), world.lock(second, "gpu")
    async with semaphore:
        with pytest.raises(StoreUnavailable, match=r"semaphore|WRONGTYPE"):
            await lock.acquire(timeout=5.0)
    async with lock:
        with pytest.raises(StoreUnavailable, match=r"lock|WRONGTYPE"):
            await semaphore.acquire(timeout=5.0)
    await free(semaphore)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"limit": 0}, "limit must be an integer from 1 to 1000"),
        ({"limit": True}, "limit"),
        ({"limit": 1001}, "limit"),
        ({"limit": 2, "ttl": 0}, "ttl"),
        ({"limit": 2, "timeout": -1}, "timeout"),
        ({"limit": 2, "max_hold": 0}, "max_hold"),
        ({"limit": 2, "on_lost": "x"}, "on_lost"),
    ],
    ids=str,
)
async def test_bad_options_are_refused(
    make: Make, first: LockClient, options: dict[str, Any], said: str
) -> None:
    """Before anything is sent, and all at once."""
    with pytest.raises(ValueError, match=said):
        make(first, **options)


@pytest.mark.parametrize("permits", [0, 3, -1, 1.0, True, "1"], ids=repr)
async def test_bad_permits_are_refused(make: Make, first: LockClient, permits: Any) -> None:
    """There are not more than the limit, and no parts of one."""
    semaphore = make(first, 2)
    with pytest.raises(ValueError, match="permits must be an integer from 1 to 2"):
        semaphore.hold(permits=permits)
    with pytest.raises(ValueError, match="permits"):
        await semaphore.acquire(permits=permits)
    with pytest.raises(ValueError, match="permits"):
        await semaphore.try_acquire(permits=permits)


async def test_a_shielded_cleanup_keeps_the_permit(
    make: Make, first: LockClient, second: LockClient
) -> None:
    """The permit is given back when the body has ended, not before."""
    semaphore, other = make(first, 1), make(second, 1)

    async def body() -> None:
        async with semaphore:
            try:
                await asyncio.sleep(HOUR)
            finally:
                with CancelScope(shield=True):
                    assert await other.try_acquire() is None

    task = asyncio.create_task(body())
    while not (await other.inspect()).held:
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    await free(other)


async def test_its_repr_says_what_it_is(make: Make, first: LockClient) -> None:
    """The semaphore its limit, the lease its slots."""
    semaphore = make(first, 2)
    assert "of 2 on" in repr(semaphore)
    assert semaphore.limit == 2
    async with semaphore as lease:
        assert isinstance(lease, SemaphoreLease)
        assert "slot 0" in repr(lease)
