"""What the scripts promise while a server's clock is set, or stands still."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiodistlock import LeaseLost, LockClient
from aiodistlock.core.fencing import MAX_LOCAL_HANDOFFS, covered, local_fence
from tests.redis.driver import Inbox, Scripts, assert_rising, fence_of
from tests.redis.shifted import ShiftedClock, build_shim, shifted_server

DEAD = "inbox:dead"


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that shifts a server's clock."""
    return build_shim(tmp_path_factory.mktemp("clock"))


@pytest.fixture
def shifted(
    redis_binary: Path, shim: Path, tmp_path: Path
) -> Iterator[tuple[Scripts, ShiftedClock]]:
    """The scripts on a server whose clock can be set."""
    with shifted_server(redis_binary, shim, tmp_path) as server:
        yield server


def test_fences_rise_though_the_clock_is_set_back(shifted: tuple[Scripts, ShiftedClock]) -> None:
    """100 s back while the counter is there: over release, hand-off, crash and report."""
    lock, clock = shifted
    with Inbox(lock.client) as inbox:
        fences = [fence_of(lock, "a")]
        clock.set_to(-100)
        lock.acquire("b", inbox.channel)
        lock.release("a")
        (message,) = inbox.messages()
        told, granted_at, *_ = message.split(" ")
        fences.append(int(told))
        assert fences[0] - int(granted_at) > 90_000_000
        assert fences[1] > local_fence(fences[0], MAX_LOCAL_HANDOFFS)
        assert lock.marked
        lock.command("DEL", lock.key)
        for _ in range(2):  # asked again, it must be told, too
            _, fence, now = lock.acquire("c")
            assert not covered(fence, now)
        fences.append(fence)
        _, fence, now = lock.pass_on("c", "c2", inbox.channel)
        assert not covered(fence, now)
        fences.append(fence)
        lock.release("c")
        fences.append(fence_of(lock, "d"))
        lock.release("d")
        clock.set_to(100)
        _, fence, now = lock.acquire("e")
        assert (fence, lock.marked) == (now, False)
        fences.append(fence)
        assert_rising(fences)


def test_fences_rise_though_the_clock_stands_still(shifted: tuple[Scripts, ShiftedClock]) -> None:
    """Two leases in one microsecond have two tokens, and two waiters two places."""
    lock, clock = shifted
    clock.stop()
    fences = []
    for number in range(5):
        fences.append(fence_of(lock, f"a{number}"))
        assert lock.acquire("z", DEAD)[4] == 0
        assert lock.acquire("y", DEAD)[4] == 1
        lock.release(f"a{number}")
    assert_rising(fences)


def test_fences_rise_though_the_clock_jumps_forward_and_back(
    shifted: tuple[Scripts, ShiftedClock],
) -> None:
    """A jump forward ends leases early, but no token is ever given twice or too low."""
    lock, clock = shifted
    fences = [fence_of(lock, "a")]
    clock.set_to(1_000)
    assert lock.release("a") == ("GONE",)
    fences.append(fence_of(lock, "b"))
    assert fences[1] - fences[0] > 900_000_000
    lock.release("b")
    clock.set_to(0)
    fences.append(fence_of(lock, "c"))
    lock.release("c")
    clock.set_to(-100)
    fences.append(fence_of(lock, "d"))
    assert_rising(fences)


def test_the_queue_keeps_its_order_though_the_clock_is_set_back(
    shifted: tuple[Scripts, ShiftedClock],
) -> None:
    """Who came after the step queues behind who came before it."""
    lock, clock = shifted
    lock.acquire("a")
    lock.acquire("z", DEAD)
    clock.set_to(-100)
    for position, token in enumerate("yxw"):
        assert lock.acquire(token, DEAD)[4] == position + 1
    assert lock.waiters == ["z", "y", "x", "w"]


def test_a_renewal_ends_the_surplus_of_a_clock_set_back(
    shifted: tuple[Scripts, ShiftedClock],
) -> None:
    """The step adds to what is left of a lease; the next renewal sets it right."""
    lock, clock = shifted
    lock.acquire("a", ttl=5_000)
    clock.set_to(-100)
    assert lock.remaining() > 90_000
    assert lock.renew("a", 5_000)[0] == "DONE"
    assert 0 < lock.remaining() <= 5_000


async def test_terms_rise_over_a_clock_that_jumps(shifted: tuple[Scripts, ShiftedClock]) -> None:
    """Back: the next term is higher.  Forward, over a lease's end: lost, and the next is higher."""
    lock, clock = shifted
    where = lock.client.connection_pool.connection_kwargs
    url = f"redis://{where['host']}:{where['port']}"
    async with LockClient.from_url(url) as here, LockClient.from_url(url) as there:
        ours, theirs = (each.election("e", ttl=3.0) for each in (here, there))
        async with ours.lead() as first:
            clock.set_to(-100)
            await first.proclaim("it goes on")
            assert first.is_held
        began = asyncio.Event()

        async def lead() -> None:
            async with ours.lead():
                began.set()
                await asyncio.sleep(3600)

        leading = asyncio.create_task(lead())
        await began.wait()
        seen = await theirs.leader()
        clock.set_to(100)
        async with theirs.lead(timeout=20) as third:
            assert seen is not None
            assert first.fencing_token < seen.term < third.fencing_token
            with pytest.raises(LeaseLost):
                await leading
            third.check()
