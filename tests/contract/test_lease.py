"""What a holder holds: how long, how it ends, and what it tells."""

import asyncio
import time
from contextlib import AsyncExitStack
from itertools import pairwise
from typing import Any

import pytest
from anyio import CancelScope, fail_after

from aiodistlock import LeaseLost, LockClient, NotHeld, Renewed
from tests.contract.world import STYLES, World, free, held, queued, turns
from tests.stories import Told


async def test_a_fresh_lease_can_be_relied_on(world: World, first: LockClient, style: str) -> None:
    """A new lease is held, valid for nearly its ttl, and passes its check."""
    async with held(world.lock(first, ttl=60.0), style) as lease:
        assert lease.is_held
        # 1 % and 2 ms are given up to drift; the rest is the time since the request.
        assert 50.0 < lease.validity <= 60.0 - 0.602
        lease.check()
        assert lease.name == "wallet"
        assert "fencing token" in repr(lease)
        assert "valid for 5" in repr(lease)


async def test_a_released_lease_is_over(world: World, first: LockClient, style: str) -> None:
    """After its release a lease is worth nothing, and says so."""
    async with held(world.lock(first), style) as lease:
        pass
    assert not lease.is_held
    assert lease.validity == 0.0
    with pytest.raises(NotHeld):
        lease.check()
    with pytest.raises(NotHeld):
        await lease.release()
    with pytest.raises(NotHeld):
        await lease.extend(5.0)
    assert await lease.wait_lost() is False
    assert "released" in repr(lease)


async def test_a_second_release_does_not_harm_the_next_holder(
    world: World, first: LockClient, style: str
) -> None:
    """Releasing twice is the caller's mistake, and nobody else's loss."""
    lock = world.lock(first)
    old = await lock.acquire()
    await old.release()
    async with held(lock, style) as lease:
        with pytest.raises(NotHeld, match="wallet"):
            await old.release()
        assert await lock.locked()
        assert lease.is_held
        assert (await lock.inspect()).holder == lease.token


async def test_another_task_may_release(world: World, first: LockClient) -> None:
    """A lease belongs to whoever has it, not to the task that acquired it."""
    lock = world.lock(first)
    lease = await lock.acquire()
    await asyncio.create_task(lease.release())
    assert not await lock.locked()
    # The task that acquired holds nothing now, and may acquire again.
    async with lock:
        pass


async def test_the_body_may_release_early(world: World, first: LockClient) -> None:
    """A lease that was released in the block is not released again at its end."""
    lock = world.lock(first)
    async with lock as lease:
        await lease.release()
        assert not await lock.locked()
    async with lock.hold() as lease:
        await lease.release()


@pytest.mark.parametrize("ttl", [4.0, 60.0])
async def test_extend_sets_the_remaining_time(
    world: World, first: LockClient, second: LockClient, ttl: float
) -> None:
    """``extend`` sets the time that is left, up or down, for everybody to see."""
    lock = world.lock(first, ttl=10.0, auto_renew=False)
    async with lock as lease:
        await lease.extend(ttl)
        assert ttl * 0.5 < lease.validity <= ttl
        info = await world.lock(second).inspect()
        assert info.ttl is not None
        assert ttl * 0.5 < info.ttl <= ttl
        # The holder gives up before the store does, never after.
        assert lease.validity < info.ttl + 0.01


@pytest.mark.parametrize("ttl", [0, -1, 0.049, float("nan"), float("inf"), None, "5", True])
async def test_a_bad_extension_is_refused(world: World, first: LockClient, ttl: Any) -> None:
    """``extend`` takes a number of seconds from 0.05; the lease stays as it is."""
    async with world.lock(first) as lease:
        with pytest.raises(ValueError, match="ttl"):
            await lease.extend(ttl)
        assert lease.validity > 5.0


async def test_a_lease_is_renewed_while_it_is_held(
    world: World, first: LockClient, second: LockClient
) -> None:
    """A holder that takes its time keeps the lock for longer than its ttl, in every style."""
    told = Told()
    first.add_listener(told)
    async with AsyncExitStack() as stack:
        # All at once, since real time must pass. The first of them is held for the longest.
        leases = [
            await stack.enter_async_context(held(world.lock(first, style, ttl=1.5), style))
            for style in STYLES
        ]
        # One after a third of the ttl each: without them the lease would be over by now.
        await told.until(Renewed, 4 * len(leases))
        for style, lease in zip(STYLES, leases, strict=True):
            assert lease.is_held
            assert await world.lock(second, style).try_acquire() is None
    for style in STYLES:
        assert not await world.lock(first, style).locked()


@pytest.mark.parametrize("style", ["async with lock", "lock.hold()"])
@pytest.mark.parametrize(
    "options", [{"auto_renew": False, "ttl": 0.1}, {"max_hold": 0.1}], ids=["ttl", "max_hold"]
)
async def test_the_body_ends_when_the_lease_does(
    world: World, first: LockClient, second: LockClient, style: str, options: dict[str, Any]
) -> None:
    """A lease that runs out cancels its body, before anybody else can get in."""
    lock, other = world.lock(first, **options), world.lock(second)
    cancelled = False
    with pytest.raises(LeaseLost, match="wallet") as caught:  # noqa: PT012 - the block raises
        async with held(lock, style) as lease:
            waiting = asyncio.create_task(other.acquire())
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled = True
                assert not waiting.done()
                assert not lease.is_held
                with pytest.raises(LeaseLost):
                    lease.check()
                with pytest.raises(LeaseLost):
                    await lease.extend(5.0)
                raise
    assert cancelled
    assert caught.value.fencing_token == lease.fencing_token
    assert await lease.wait_lost() is True
    with fail_after(5):
        newer = await waiting
    assert newer.fencing_token > lease.fencing_token
    await newer.release()


async def test_after_a_loss_the_other_tasks_contend_anew(world: World, first: LockClient) -> None:
    """The loss of a process's lease costs its holder the lock, not those who wait."""
    losing, waiting = world.lock(first, max_hold=0.05), world.lock(first)
    lease = await losing.acquire()
    tasks = [asyncio.create_task(waiting.acquire()) for _ in range(2)]
    assert await lease.wait_lost() is True
    with pytest.raises(LeaseLost):
        await lease.release()
    for task in tasks:
        with fail_after(5):
            newer = await task
        assert newer.fencing_token > lease.fencing_token
        lease = newer
        await newer.release()


async def test_with_on_lost_signal_the_body_goes_on(
    world: World, first: LockClient, style: str
) -> None:
    """``on_lost="signal"`` tells of the loss and leaves the decision to the body."""
    lock = world.lock(first, ttl=0.1, auto_renew=False, on_lost="signal")
    ended = False
    with pytest.raises(LeaseLost):  # noqa: PT012 - the block raises
        async with held(lock, style) as lease:
            assert await lease.wait_lost() is True
            assert not lease.is_held
            assert lease.validity == 0.0
            await turns()
            ended = True
    assert ended


async def test_by_hand_a_loss_interrupts_nobody(world: World, first: LockClient) -> None:
    """Without a block nothing is cancelled: the release tells of the loss."""
    lease = await world.lock(first, ttl=0.1, auto_renew=False).acquire()
    watchers = [asyncio.create_task(lease.wait_lost()) for _ in range(3)]
    assert await asyncio.gather(*watchers) == [True, True, True]
    with pytest.raises(LeaseLost):
        await lease.release()
    with pytest.raises(NotHeld):
        await lease.release()


async def test_a_body_that_outlives_its_lease_is_told_at_its_end(
    world: World, first: LockClient
) -> None:
    """A loop that is blocked past the deadline does not hide the loss."""
    with pytest.raises(LeaseLost):
        async with world.lock(first, ttl=0.1, auto_renew=False):
            # Blocks the loop on purpose, so that nobody can cancel the body.
            time.sleep(0.15)


async def test_a_body_of_its_own_mind_is_not_masked(world: World, first: LockClient) -> None:
    """The body's own exception passes; the loss is attached as a note."""
    with pytest.raises(ZeroDivisionError) as caught:  # noqa: PT012 - the block raises
        async with world.lock(first, max_hold=0.05) as lease:
            with CancelScope(shield=True):
                await lease.wait_lost()
            1 / 0  # noqa: B018 - the body's own error
    assert any("lost" in note for note in caught.value.__notes__)


async def test_an_exception_releases_the_lock(world: World, first: LockClient, style: str) -> None:
    """A body that fails leaves the lock free."""
    lock = world.lock(first)
    with pytest.raises(ZeroDivisionError):
        async with held(lock, style):
            1 / 0  # noqa: B018 - the body's own error
    assert not await lock.locked()


async def test_a_cancelled_body_releases_the_lock(
    world: World, first: LockClient, style: str
) -> None:
    """A body cancelled from outside leaves the lock free, and the cancellation passes."""
    lock = world.lock(first)
    entered = asyncio.Event()

    async def body() -> None:
        async with held(lock, style):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(body())
    await entered.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    await free(lock)


async def test_wait_lost_ends_with_the_release(world: World, first: LockClient) -> None:
    """Whoever waits for a loss is told ``False`` by a release."""
    async with world.lock(first) as lease:
        task = asyncio.create_task(lease.wait_lost())
        await turns()
        assert not task.done()
    assert await task is False


async def test_max_hold_counts_for_each_holder(world: World, first: LockClient) -> None:
    """Each local holder has its own ``max_hold``, however long the process holds."""
    lock = world.lock(first, max_hold=3.0)
    loop = asyncio.get_running_loop()
    ends: list[float] = []

    async def hold() -> None:
        async with lock as lease:
            assert lease.validity <= 3.0
            ends.append(loop.time() + lease.validity)
            # Real time: what a holder uses up must not be missing to the next.
            await asyncio.sleep(0.1)

    await asyncio.gather(*(hold() for _ in range(4)))
    assert all(later - sooner > 0.09 for sooner, later in pairwise(ends))


async def test_the_next_local_holder_has_half_a_ttl(world: World, first: LockClient) -> None:
    """A hand-off in memory gives at least half of the next one's ttl, free of old bounds."""
    short, long = world.lock(first, ttl=4.0, max_hold=5.0), world.lock(first, ttl=20.0)
    lease = await short.acquire()
    waiting = asyncio.create_task(long.acquire())
    await turns()
    await lease.release()
    newer = await waiting
    assert newer.validity > 9.0
    assert newer.fencing_token > lease.fencing_token
    await newer.release()


@pytest.mark.needs_queue
async def test_a_grant_to_a_waiter_is_claimed_to_the_full_ttl(
    world: World, first: LockClient, second: LockClient
) -> None:
    """A lease that came by message has its whole ttl soon, not the claim window only."""
    lock, waiting = world.lock(first), world.lock(second, ttl=20.0)
    async with lock:
        task = asyncio.create_task(waiting.acquire())
        await queued(lock, 1)
    lease = await task
    with fail_after(5):
        while lease.validity < 15.0:
            await asyncio.sleep(0)
    await lease.release()
