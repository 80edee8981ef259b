"""Several locks in one block: all or none, and without dead-lock."""

# ruff: noqa: PT012 - how a whole block ends is what is tested

import asyncio
import itertools
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import anyio
import pytest

from aiodistlock import (
    AcquireTimeout,
    Lease,
    LeaseLost,
    LockClient,
    LockError,
    NotHeld,
    StoreUnavailable,
    Together,
)
from aiodistlock.testing import ManualClock
from tests.contract.world import Room, World, free, turns
from tests.faults.world import lose

LONG = 30.0
"""Seconds that no test waits for."""

NAMES = ("a", "b", "c", "d", "e")


def together(world: World, client: LockClient, *names: str, **options: Any) -> Together:
    """Build a block on names in the test's own namespace."""
    return client.together(*names, namespace=world.namespace, **options)


async def all_free(world: World, client: LockClient, *names: str) -> None:
    """Wait until nobody holds any of the names or waits for it."""
    with anyio.fail_after(10):
        for name in names:
            await free(world.lock(client, name))


async def holders(world: World, client: LockClient, *names: str) -> list[bool]:
    """Tell of each name whether anybody holds it."""
    while True:
        # On a busy machine the nodes of a quorum may be silent for a while.
        with suppress(StoreUnavailable):
            return [await world.lock(client, name).locked() for name in names]


async def holding(world: World, client: LockClient, *names: str) -> None:
    """Wait until exactly these of the names are held."""
    with anyio.fail_after(10):
        while await holders(world, client, *NAMES) != [name in names for name in NAMES]:
            await asyncio.sleep(0)


@pytest.mark.parametrize("count", [1, 2, 5])
async def test_the_leases_come_in_the_order_of_the_names(
    world: World, first: LockClient, second: LockClient, count: int
) -> None:
    """All are held in the block, by whatever order they were taken, and none behind it."""
    names = NAMES[:count][::-1]
    async with together(world, first, *names) as leases:
        assert tuple(lease.name for lease in leases) == names
        assert all(lease.is_held for lease in leases)
        assert await holders(world, second, *names) == [True] * count
    assert not any(lease.is_held for lease in leases)
    await all_free(world, second, *names)


async def test_it_waits_in_order_and_holds_no_later_one_meanwhile(
    world: World, first: LockClient, second: LockClient
) -> None:
    """Those in front of one that is held are kept, those behind it are free for others."""
    theirs = await world.lock(second, "c").acquire()
    entered = asyncio.Event()

    async def enter() -> None:
        async with together(world, first, "e", "c", "b"):
            entered.set()

    task = asyncio.create_task(enter())
    await holding(world, second, "b", "c")
    async with world.lock(second, "e").hold(timeout=5):
        assert not entered.is_set()
        await theirs.release()
        await holding(world, second, "b", "c", "e")
        assert not entered.is_set()
    with anyio.fail_after(10):
        await task
    await all_free(world, second, *NAMES)


@pytest.mark.parametrize("held", ["a", "b", "c"])
@pytest.mark.parametrize("timeout", [0, 0.05])
async def test_whoever_runs_out_of_time_leaves_none(
    world: World, first: LockClient, second: LockClient, held: str, timeout: float
) -> None:
    """The error has the timeout for all."""
    async with world.lock(second, held):
        with pytest.raises(AcquireTimeout) as caught:
            async with together(world, first, "a", "b", "c", timeout=timeout):
                raise AssertionError("that cannot be")
        assert caught.value.timeout == timeout
        await holding(world, second, held)
    await all_free(world, second, *NAMES)
    async with together(world, second, "a", "b", "c", timeout=LONG):
        pass


async def test_cancelled_while_it_waits_it_leaves_none(
    world: World, first: LockClient, second: LockClient
) -> None:
    """Those that it had already go back at once, not when their ttl is over."""
    async with world.lock(second, "c"):
        task = asyncio.create_task(together(world, first, "a", "b", "c", ttl=60.0).__aenter__())
        await holding(world, second, "a", "b", "c")
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        await holding(world, second, "c")
    await all_free(world, second, *NAMES)


async def test_the_timeout_is_one_for_all() -> None:
    """What the wait for one name took is not there for the next."""
    clock = ManualClock()
    async with (
        LockClient.in_memory(clock=clock) as first,
        LockClient.in_memory(first) as second,
        second.lock("b"),
    ):
        theirs = await second.lock("a").acquire()
        entering = asyncio.create_task(first.together("a", "b", timeout=5.0).__aenter__())
        await clock.advance(4.0)
        await theirs.release()
        await clock.advance(0.9)
        assert not entering.done()
        await clock.advance(0.2)
        with pytest.raises(AcquireTimeout, match="5 s") as caught:
            await entering
        assert caught.value.name == "b"
        assert not await second.lock("a").locked()


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_the_loss_of_any_cancels_the_body(
    world: World, first: LockClient, second: LockClient, place: int
) -> None:
    """LeaseLost names it, and the others are released."""
    with anyio.fail_after(10), pytest.raises(LeaseLost) as caught:
        async with together(world, first, "c", "a", "b") as leases:
            lose(leases[place])
            await asyncio.sleep(LONG)
    assert caught.value.name == leases[place].name
    assert caught.value.fencing_token == leases[place].fencing_token
    assert not hasattr(caught.value, "__notes__")
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await all_free(world, second, *NAMES)


async def test_all_that_are_lost_are_told(world: World, first: LockClient) -> None:
    """The first in order is raised; the others stand in its notes."""
    with anyio.fail_after(10), pytest.raises(LeaseLost) as caught:
        async with together(world, first, "b", "a", "c") as leases:
            for lease in leases[:2]:
                lose(lease)
            await asyncio.sleep(LONG)
    assert caught.value.name == "a"
    assert len(caught.value.__notes__) == 1
    assert "'b'" in caught.value.__notes__[0]


async def test_a_loss_only_signals_where_that_is_wanted(world: World, first: LockClient) -> None:
    """With on_lost="signal" the body goes on, and the end of the block tells."""
    with pytest.raises(LeaseLost, match="'b'"):
        async with together(world, first, "a", "b", on_lost="signal") as (one, other):
            lose(other)
            await turns()
            assert one.is_held
            assert await other.wait_lost()


async def test_an_exception_of_the_body_passes(
    world: World, first: LockClient, second: LockClient
) -> None:
    """With a note for a loss that came meanwhile; none stays held."""
    with pytest.raises(RuntimeError, match="mine") as caught:
        async with together(world, first, "a", "b") as (one, _):
            lose(one)
            raise RuntimeError("mine")
    assert "'a'" in caught.value.__notes__[0]
    await all_free(world, second, *NAMES)


async def test_the_body_may_release_some_itself(
    world: World, first: LockClient, second: LockClient
) -> None:
    """The end of the block releases the others."""
    async with together(world, first, "a", "b", "c") as (one, two, _):
        await two.release()
        async with world.lock(second, "b").hold(timeout=LONG):
            assert one.is_held
        with pytest.raises(NotHeld):
            two.check()
    await all_free(world, second, *NAMES)


async def test_one_that_is_lost_meanwhile_is_acquired_again(
    world: World, first: LockClient, second: LockClient
) -> None:
    """While the task waits for a later one; nothing is in the body yet that could be cancelled."""
    theirs = await world.lock(second, "b").acquire()
    entered: list[Lease] = []

    async def enter() -> None:
        async with together(world, first, "a", "b") as leases:
            assert all(lease.is_held for lease in leases)
            entered.extend(leases)

    task = asyncio.create_task(enter())
    await holding(world, second, "a", "b")
    lost = _holder_of(world, first, "a")
    lose(lost)
    await theirs.release()
    with anyio.fail_after(10):
        await task
    assert entered[0].fencing_token > lost.fencing_token
    await all_free(world, second, *NAMES)


def _holder_of(world: World, client: LockClient, name: str) -> Any:
    held = client._holders[f"{world.namespace}{name}".encode()].holder
    assert held is not None
    return held()


async def test_a_block_is_for_once(world: World, first: LockClient) -> None:
    """As a hold()."""
    block = together(world, first, "a", "b")
    async with block:
        pass
    with pytest.raises(RuntimeError, match="single"):
        await block.__aenter__()


async def test_locks_that_are_ready_may_be_passed(world: World, first: LockClient) -> None:
    """With the same options; the namespace is a part of the name, and timeout is one for all."""
    locks = [
        first.lock("x", namespace=f"{world.namespace}{part}", timeout=after)
        for part, after in (("b:", 1), ("a:", 2))
    ]
    async with first.together(*locks, timeout=LONG) as leases:
        assert [lease.name for lease in leases] == ["x", "x"]
        assert await locks[0].locked()
        assert await locks[1].locked()


async def test_a_task_that_holds_one_already_is_told(
    world: World, first: LockClient, second: LockClient
) -> None:
    """It would wait for itself; it is told before anything is taken."""
    async with world.lock(first, "b") as lease:
        with pytest.raises(LockError, match=r"'b'.*reentrant") as caught:
            async with together(world, first, "a", "b"):
                raise AssertionError("that cannot be")
        assert type(caught.value) is LockError
        assert lease.is_held
        assert await holders(world, second, "a", "b") == [False, True]


async def test_who_does_not_wait_is_refused_what_its_task_holds(
    world: World, first: LockClient
) -> None:
    """As where a request is answered that the lock is held: nobody would wait for itself."""
    async with world.lock(first, "b"):
        with pytest.raises(AcquireTimeout) as caught:
            async with together(world, first, "a", "b", timeout=0):
                raise AssertionError("that cannot be")
        assert caught.value.name == "b"
        assert caught.value.holder is not None
    await all_free(world, first, "a", "b")


async def test_a_reentrant_one_is_entered_again_in_order(
    world: World, first: LockClient, second: LockClient
) -> None:
    """The same lease, which ends with the outer block; out of order the task is told."""
    async with world.lock(first, "a", reentrant=True) as outer:
        async with together(world, first, "b", "a", reentrant=True) as (other, again):
            assert again is outer
            async with together(world, first, "a", "b", reentrant=True) as both:
                assert both == (outer, other)
        assert outer.is_held
        assert not other.is_held
    async with (
        world.lock(first, "a", reentrant=True) as outer,
        world.lock(second, "c"),
    ):
        with pytest.raises(AcquireTimeout):
            async with together(world, first, "a", "b", "c", reentrant=True, timeout=0.05):
                raise AssertionError("that cannot be")
        assert outer.is_held
        assert outer._depth == 1
    async with world.lock(first, "b", reentrant=True) as outer:
        with pytest.raises(LockError, match=r"'a'.*comes before"):
            async with together(world, first, "a", "b", reentrant=True):
                raise AssertionError("that cannot be")
        assert outer.is_held
    await all_free(world, second, *NAMES)


@pytest.mark.parametrize("world", ["memory", "resp3"], indirect=True)
async def test_leases_that_linger_are_used_again(first: LockClient, world: World) -> None:
    """Without a request, where all of them do; and other tasks are let in meanwhile."""
    turned = 0

    async def others() -> None:
        nonlocal turned
        while True:
            turned += 1
            await asyncio.sleep(0)

    async with together(world, first, "a", "b", linger=LONG):
        pass
    task = asyncio.create_task(others())
    before = first.linger_counts.hits
    used = 0
    while turned < 20:
        async with together(world, first, "a", "b", linger=LONG):
            used += 1
    task.cancel()
    assert first.linger_counts.hits - before > used
    assert used < 100 * turned  # a use takes some 30 µs, and a turn may be half a millisecond


async def test_a_closed_client_ends_the_wait(
    world: World, first: LockClient, second: LockClient
) -> None:
    """And gives back what it had taken."""
    async with world.lock(second, "b"):
        entering = asyncio.create_task(together(world, first, "a", "b").__aenter__())
        await holding(world, second, "a", "b")
        await first.aclose()
        with pytest.raises(LockError, match="closed"):
            await entering
    await all_free(world, second, *NAMES)


@pytest.mark.bounded(60)
async def test_whoever_takes_them_so_gets_on(world: World, processes: list[LockClient]) -> None:
    """Tasks of several clients on subsets of five names, in any order: none waits for ever."""
    rng = random.Random(1)
    rooms = {name: Room() for name in NAMES}

    async def visit(client: LockClient, names: list[str]) -> None:
        async with together(world, client, *names) as leases:
            for lease in leases:
                await rooms[lease.name].visit(lease)

    async def work(client: LockClient) -> None:
        for _ in range(8):
            await visit(client, rng.sample(NAMES, rng.randint(1, 4)))

    with anyio.fail_after(50):
        async with asyncio.TaskGroup() as group:
            for client, _ in itertools.product(processes, range(2)):
                group.create_task(work(client))
    for room in rooms.values():
        assert room.fences == sorted(room.fences)
    await all_free(world, processes[0], *NAMES)


WRONG: dict[str, tuple[Callable[[LockClient, LockClient], Together], list[str]]] = {
    "no name": (lambda one, _: one.together(), ["needs a name"]),
    "a name twice": (lambda one, _: one.together("a", "b", "a"), ["'a' is named twice"]),
    "a list": (lambda one, _: one.together(["a", "b"]), ["must be a str"]),  # type: ignore[arg-type]
    "all that is wrong": (
        lambda one, _: one.together("", "a", "a", ttl=-1, timeout=-2),
        ["must not be empty", "ttl", "timeout"],
    ),
    "another client's": (
        lambda one, two: one.together("a", two.lock("b")),
        ["'b' is not of this client"],
    ),
    "mixed options": (
        lambda one, _: one.together(one.lock("a", ttl=2), one.lock("b", reentrant=True), timeout=1),
        ["different options: ttl, reentrant"],
    ),
    "mixed timeouts": (
        lambda one, _: one.together(one.lock("a", timeout=2), "b"),
        ["different options: timeout"],
    ),
    "options for locks": (
        lambda one, _: one.together(one.lock("a"), one.lock("a"), ttl=2),
        ["ttl: a lock that is passed has its own", "'a' is named twice"],
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_what_is_wrong_is_told_before_any_request(
    first: LockClient, second: LockClient, wrong: str
) -> None:
    """By one ValueError that names all of it."""
    build, told = WRONG[wrong]
    with pytest.raises(ValueError, match=r".") as caught:
        build(first, second)
    assert all(each in str(caught.value) for each in told)
    assert "not used yet" in repr(first)
    with pytest.raises(TypeError, match="unknown"):
        first.together("a", unknown=1)  # type: ignore[call-arg]
