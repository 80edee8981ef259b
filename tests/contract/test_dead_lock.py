"""Tasks of one process that wait for each other are found, and told of."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from aiodistlock import AcquireTimeout, LockClient, LockError
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
