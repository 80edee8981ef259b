"""What every lock-like thing promises, where whoever has it excludes everybody else."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from anyio import fail_after

from aiodistlock import AcquireTimeout, LeaseLost, LockClient, LockError, StoreUnavailable
from aiodistlock.core.keys import LockKeys
from tests.contract.lock_likes import LOCK_LIKES, NAME, Use, lease_of
from tests.contract.world import ORDERED, Room, World
from tests.faults.world import lose

pytestmark = pytest.mark.parametrize("world", ORDERED, indirect=True)

SOON = 25.0
"""Longer than anything here takes, seconds, and much shorter than a lease."""


@pytest.fixture(params=LOCK_LIKES)
def use(request: pytest.FixtureRequest) -> Use:
    """Each of them."""
    return LOCK_LIKES[request.param]


@pytest.fixture(autouse=True)
async def no_mark(world: World, processes: list[LockClient]) -> AsyncIterator[None]:
    """Take away the mark of what is done once, which stays on purpose."""
    yield
    source: Any = processes[0]._source
    if hasattr(source, "delete"):
        await source.delete(LockKeys(NAME, world.namespace).done)


class Gate:
    """A body that begins, and ends when it is let."""

    def __init__(self) -> None:
        self.begun, self.open = asyncio.Event(), asyncio.Event()
        self.cancelled = False

    async def __call__(self, _inside: object) -> None:
        """Be inside."""
        self.begun.set()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise


async def nothing(_inside: object) -> None:
    """Be done."""


async def test_nobody_is_inside_beside_another_and_fencing_tokens_rise(
    world: World, processes: list[LockClient], use: Use
) -> None:
    """Whichever process they are of, and whatever turn they come in."""
    room = Room()

    async def visits(client: LockClient) -> None:
        for _ in range(2):
            await use(world, client, room.visit, None)

    with fail_after(SOON):
        await asyncio.gather(*(visits(client) for client in processes for _ in range(2)))
    assert room.visits == len(processes) * 4
    assert all(one < other for one, other in pairwise(room.fences))


async def test_an_error_passes_and_the_next_one_enters(
    world: World, first: LockClient, second: LockClient, use: Use
) -> None:
    """At once: the lease is of an hour."""

    async def failing(_inside: object) -> None:
        raise KeyError("mine")

    with fail_after(SOON):
        with pytest.raises(KeyError, match="mine"):
            await use(world, first, failing, None)
        await use(world, second, nothing, None)


async def test_a_loss_cancels_the_body_and_is_told(
    world: World, first: LockClient, second: LockClient, use: Use
) -> None:
    """``LeaseLost``, and whoever has it next is not kept waiting."""
    ended = []

    async def losing(inside: Any) -> None:
        lose(lease_of(inside))
        try:
            await asyncio.sleep(3600.0)
        finally:
            ended.append(True)
            with pytest.raises(LeaseLost):
                inside.check()

    with fail_after(SOON):
        with pytest.raises(LeaseLost):
            await use(world, first, losing, None)
        assert ended
        await use(world, second, nothing, None)


async def test_who_does_not_get_its_turn_in_time_is_told_and_leaves(
    world: World, first: LockClient, second: LockClient, use: Use
) -> None:
    """And stands in nobody's way."""
    gate = Gate()
    with fail_after(SOON):
        holding = asyncio.create_task(use(world, first, gate, None))
        await gate.begun.wait()
        # (On a busy machine Redis may not even have answered.)
        with pytest.raises((AcquireTimeout, StoreUnavailable)):
            await use(world, second, nothing, 0.2)
        gate.open.set()
        await holding
        await use(world, second, nothing, None)


async def test_whoever_is_cancelled_leaves_and_the_next_one_enters(
    world: World, processes: list[LockClient], use: Use
) -> None:
    """Inside, and while it waits."""
    gate, last = Gate(), Gate()
    last.open.set()
    with fail_after(SOON):
        holding = asyncio.create_task(use(world, processes[0], gate, None))
        await gate.begun.wait()
        waiting = asyncio.create_task(use(world, processes[1], nothing, None))
        behind = asyncio.create_task(use(world, processes[2], last, None))
        await asyncio.sleep(0.05)  # real time: they wait by now; if not it is no matter
        for task in (waiting, holding):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            assert task.cancelled()
        assert gate.cancelled
        await behind
    assert last.begun.is_set()


async def test_a_closed_client_is_of_no_use(world: World, first: LockClient, use: Use) -> None:
    """It says so, instead of waiting."""
    await first.aclose()
    with fail_after(SOON), pytest.raises(LockError, match="closed"):
        await use(world, first, nothing, None)


async def test_they_exclude_each_other_by_name(world: World, processes: list[LockClient]) -> None:
    """All but semaphores are of one key: who leads keeps out whoever locks, and so on."""
    room = Room()
    uses = [use for name, use in LOCK_LIKES.items() if name != "semaphore"]

    async def visit(number: int, use: Use) -> None:
        await use(world, processes[number % len(processes)], room.visit, None)

    with fail_after(SOON):
        await asyncio.gather(*(visit(n, use) for n, use in enumerate(uses * 3)))
    assert room.visits == 3 * len(uses)
    assert all(one < other for one, other in pairwise(room.fences))
