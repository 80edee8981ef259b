"""Tasks of one process that wait for each other are found, and told of."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

import pytest

from aiodistlock import AcquireTimeout, LockClient, LockError, SemaphoreLease
from aiodistlock.testing import ManualClock

TTL = 9.0
"""Of all locks, seconds."""


@pytest.fixture
def clock() -> ManualClock:
    """The clock that all leases go by."""
    return ManualClock()


@pytest.fixture
async def locks(clock: ManualClock) -> AsyncIterator[LockClient]:
    """A client whose time the test turns."""
    async with LockClient.in_memory(clock=clock) as client:
        yield client


class Ring:
    """Tasks each of which holds a lock and then waits for the next one's."""

    def __init__(self, locks: LockClient, *timeouts: float | None, closed: bool = True) -> None:
        names = [f"n{place}" for place in range(len(timeouts))]
        wanted = [*names[1:], names[0] if closed else "nobody's"]
        self._locks = locks
        self._all_hold = asyncio.Barrier(len(names))
        self.tasks = [
            asyncio.create_task(self._work(*each), name=f"task {each[0]}")
            for each in zip(names, wanted, timeouts, strict=True)
        ]

    async def _work(self, name: str, wanted: str, timeout: float | None) -> None:
        async with self._locks.lock(name, ttl=TTL):
            await self._all_hold.wait()
            await self._take(wanted, timeout)

    async def _take(self, wanted: str, timeout: float | None) -> None:
        async with self._locks.lock(wanted, ttl=TTL, timeout=timeout):
            pass


class RingOfBlocks(Ring):
    """The same, who take what they wait for together with another one."""

    async def _take(self, wanted: str, timeout: float | None) -> None:
        async with self._locks.together(wanted, f"{wanted}!", ttl=TTL, timeout=timeout):
            pass


@pytest.mark.parametrize("kind", [Ring, RingOfBlocks])
@pytest.mark.parametrize("count", [2, 3])
async def test_a_dead_lock_without_an_end_is_ended(
    locks: LockClient, clock: ManualClock, kind: type[Ring], count: int
) -> None:
    """When the leases are renewed next: one task gets an error that names all, the others go on."""
    ring = kind(locks, *[None] * count)
    await clock.advance(TTL / 3 - 0.5)
    assert not any(task.done() for task in ring.tasks)
    await clock.advance(1.0)
    async with asyncio.timeout(10):
        ended = await asyncio.gather(*ring.tasks, return_exceptions=True)
    errors = [each for each in ended if each is not None]
    assert len(errors) == 1
    assert type(errors[0]) is LockError
    for place in range(count):
        assert f"'task n{place}'" in str(errors[0])
        assert f"'n{place}'" in str(errors[0])
    assert not locks._holders


@pytest.mark.parametrize("kind", [Ring, RingOfBlocks])
async def test_one_with_a_timeout_ends_by_that(
    locks: LockClient, clock: ManualClock, kind: type[Ring]
) -> None:
    """The error names the dead-lock; who waits without a timeout gets on."""
    ring = kind(locks, None, 2 * TTL, None)
    await clock.advance(2 * TTL - 1)
    assert not any(task.done() for task in ring.tasks)
    await clock.advance(2.0)
    async with asyncio.timeout(10):
        ended = await asyncio.gather(*ring.tasks, return_exceptions=True)
    error = ended[1]
    assert isinstance(error, AcquireTimeout)
    assert error.name == "n2"
    assert error.dead_lock is not None
    assert error.dead_lock in str(error)
    expected = "task 'task n1' waits for 'n2', which task 'task n2' holds, which waits for 'n0', "
    assert expected in error.dead_lock
    assert ended[0] is ended[2] is None


async def test_who_waits_for_others_without_being_waited_for_is_in_none(
    locks: LockClient, clock: ManualClock
) -> None:
    """Neither at the end of a chain, nor before a ring of others."""
    blocker = await locks.lock("nobody's", ttl=TTL).acquire()
    chain = Ring(locks, None, None, None, closed=False)
    await clock.advance(2 * TTL)
    assert not any(task.done() for task in chain.tasks)
    waiting = asyncio.create_task(locks.lock("n0", ttl=TTL, timeout=1.0).acquire())
    await clock.advance(1.5)
    with pytest.raises(AcquireTimeout) as caught:
        await waiting
    assert caught.value.dead_lock is None
    await blocker.release()
    await asyncio.gather(*chain.tasks)

    ring = Ring(locks, None, 2.0)
    stranger = asyncio.create_task(locks.lock("n0", ttl=TTL, timeout=1.0).acquire())
    await clock.advance(1.5)
    with pytest.raises(AcquireTimeout) as caught:
        await stranger
    assert caught.value.dead_lock is None
    await clock.advance(1.0)
    ended = await asyncio.gather(*ring.tasks, return_exceptions=True)
    assert isinstance(ended[1], AcquireTimeout)


Block = AbstractAsyncContextManager[Any]


class Entangled:
    """
    Tasks each of which enters some blocks, waits for the others, and then wants one more.

    :param steps: for each task what it holds, and what it wants then; ``None``: it holds on
    """

    def __init__(self, *steps: tuple[list[Block], Block | None]) -> None:
        self._all_hold = asyncio.Barrier(len(steps))
        self.enough = asyncio.Event()
        self.tasks = [
            asyncio.create_task(self._work(*each), name=f"task {number}")
            for number, each in enumerate(steps)
        ]

    async def _work(self, held: list[Block], wanted: Block | None) -> None:
        async with AsyncExitStack() as stack:
            for block in held:
                await stack.enter_async_context(block)
            await self._all_hold.wait()
            if wanted is None:
                await self.enough.wait()
                return
            async with wanted:
                pass

    async def ended(self) -> list[BaseException]:
        """Wait until all have ended, and return what they raised."""
        async with asyncio.timeout(10):
            ended = await asyncio.gather(*self.tasks, return_exceptions=True)
        return [each for each in ended if each is not None]


async def told_in_time(entangled: Entangled, clock: ManualClock) -> str:
    """Return what the one is told of the dead-lock that has a timeout, of two ttls."""
    await clock.advance(2 * TTL - 1)
    assert not any(task.done() for task in entangled.tasks)
    await clock.advance(2.0)
    (error,) = await entangled.ended()
    assert isinstance(error, AcquireTimeout)
    assert error.dead_lock is not None
    return error.dead_lock


def rings(locks: LockClient) -> dict[str, list[tuple[list[Block], Block | None]]]:
    """Return what tasks do that then wait for each other for ever."""
    gpus, one = locks.semaphore("gpu", 2, ttl=TTL), locks.semaphore("one", 1, ttl=TTL)
    three = locks.semaphore("three", 3, ttl=TTL)
    doc, page = locks.rwlock("doc", ttl=TTL), locks.rwlock("page", ttl=TTL)
    return {
        "permits of one's own": [([gpus.hold(), gpus.hold()], gpus.hold())],
        "all permits, of one's own": [([gpus.hold(permits=2)], gpus.hold())],
        "more than are left by oneself": [([gpus.hold()], gpus.hold(permits=2))],
        "a permit each": [([gpus.hold()], gpus.hold()), ([gpus.hold()], gpus.hold())],
        "two of three, both": [
            ([three.hold()], three.hold(permits=2)),
            ([three.hold()], three.hold(permits=2)),
        ],
        "a permit and a lock": [
            ([one.hold()], locks.lock("n", ttl=TTL)),
            ([locks.lock("n", ttl=TTL)], one.hold()),
        ],
        "permits of two semaphores": [
            ([one.hold()], gpus.hold(permits=2)),
            ([gpus.hold()], one.hold()),
        ],
        "two writers that want to read": [
            ([doc.write()], page.read()),
            ([page.write()], doc.read()),
        ],
        "two writers": [([doc.write()], page.write()), ([page.write()], doc.write())],
        "a reader and a writer": [([doc.read()], page.write()), ([page.write()], doc.write())],
        "a reader and a lock": [
            ([doc.read()], locks.lock("n", ttl=TTL)),
            ([locks.lock("n", ttl=TTL)], doc.write()),
        ],
    }


RINGS = list(rings(LockClient.in_memory()))


@pytest.mark.parametrize("which", RINGS)
async def test_permits_readers_and_writers_take_part(
    locks: LockClient, clock: ManualClock, which: str
) -> None:
    """One gets an error that names all tasks and what they want, the others go on."""
    steps = rings(locks)[which]
    entangled = Entangled(*steps)
    await clock.advance(TTL / 3 - 0.5)
    assert not any(task.done() for task in entangled.tasks)
    await clock.advance(1.0)
    (error,) = await entangled.ended()
    assert type(error) is LockError
    for number in range(len(steps)):
        assert f"task 'task {number}' holds" in str(error)
    assert not locks._holders


async def test_the_advice_is_of_what_is_wanted(locks: LockClient, clock: ManualClock) -> None:
    """To have permits together helps those that want several of one semaphore."""
    for which, told in (("a permit each", "permits=..."), ("a permit and a lock", "one order")):
        entangled = Entangled(*rings(locks)[which])
        await clock.advance(TTL / 3 + 1.0)
        (error,) = await entangled.ended()
        assert told in str(error)


async def test_readers_that_want_to_write_are_told_when_one_is_out_of_time(
    locks: LockClient, clock: ManualClock
) -> None:
    """Their leases, which many may share, are not looked at before."""
    doc, page = locks.rwlock("doc", ttl=TTL), locks.rwlock("page", ttl=TTL)
    entangled = Entangled(
        ([doc.read()], page.write()), ([page.read()], doc.write().hold(timeout=2 * TTL))
    )
    told = await told_in_time(entangled, clock)
    assert "waits for 'doc', which task 'task 0' holds" in told


async def test_a_timeout_among_them_ends_it(locks: LockClient, clock: ManualClock) -> None:
    """Its error names the dead-lock; the other one gets on."""
    gpus = locks.semaphore("gpu", 2, ttl=TTL)
    entangled = Entangled(([gpus.hold()], gpus.hold()), ([gpus.hold()], gpus.hold(timeout=2 * TTL)))
    told = await told_in_time(entangled, clock)
    assert "task 'task 1' waits for 'gpu', which task 'task 0' holds" in told


@pytest.mark.parametrize("other", ["task", "lease", "client"])
async def test_who_may_still_get_permits_of_somebody_else_is_in_none(
    locks: LockClient, clock: ManualClock, other: str
) -> None:
    """Of a task that does not wait, of a lease in no block, of another process."""
    gpus = locks.semaphore("gpu", 3, ttl=TTL)
    steps: list[tuple[list[Block], Block | None]] = [
        ([gpus.hold()], gpus.hold()),
        ([gpus.hold()], gpus.hold()),
    ]
    async with LockClient.in_memory(share=locks, clock=clock) as elsewhere:
        lease = None
        if other == "task":
            steps.append(([gpus.hold()], None))
        else:
            semaphore = gpus if other == "lease" else elsewhere.semaphore("gpu", 3, ttl=TTL)
            lease = await semaphore.acquire()
        entangled = Entangled(*steps)
        await clock.advance(2 * TTL)
        assert not any(task.done() for task in entangled.tasks)
        entangled.enough.set()
        if lease is not None:
            await lease.release()
        await clock.advance(1.0)
        assert await entangled.ended() == []


async def test_permits_that_another_task_may_release_are_nobodys(
    locks: LockClient, clock: ManualClock
) -> None:
    """Who acquires them is often not who gives them back: so it waits for that one."""
    gpus = locks.semaphore("gpu", 1, ttl=TTL)
    leases: list[SemaphoreLease] = []

    async def give_out() -> None:
        leases.append(await gpus.acquire())
        leases.append(await gpus.acquire())

    giving = asyncio.create_task(give_out())
    await clock.advance(2 * TTL)
    assert not giving.done()
    await leases[0].release()
    async with asyncio.timeout(10):
        await giving
    await leases[1].release()


async def test_an_upgrade_does_not_wait_for_itself(locks: LockClient, clock: ManualClock) -> None:
    """But for another reader, who may leave."""
    doc = locks.rwlock("doc", ttl=TTL)

    async def upgrade() -> None:
        async with doc.upgradeable() as lease:
            with pytest.raises(AcquireTimeout) as caught:
                await lease.upgrade(timeout=1.0)
            assert caught.value.dead_lock is None
            await lease.upgrade()

    reader = await doc.read().acquire()
    upgrading = asyncio.create_task(upgrade())
    await clock.advance(2 * TTL)
    assert not upgrading.done()
    await reader.release()
    async with asyncio.timeout(10):
        await upgrading
