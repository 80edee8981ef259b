"""What listeners are told of each way that an acquisition can go."""

# ruff: noqa: PT012 - how a whole block ends is what is tested

import asyncio
import contextlib
import random
import re
import time
from typing import Any

import pytest

from aiodistlock import (
    Abandoned,
    Acquired,
    AcquireTimeout,
    HandedOver,
    Hold,
    LeaseLost,
    LockClient,
    LockError,
    Lost,
    Released,
    Renewed,
    Waiting,
)
from aiodistlock.testing import ManualClock
from tests.contract.world import HOUR, NEVER, ORDERED, World, free, held, queued, turns
from tests.faults.world import lose
from tests.stories import Told


@pytest.fixture
def told(first: LockClient) -> Told:
    """What a listener of the first client was told."""
    listener = Told()
    first.add_listener(listener)
    return listener


@pytest.fixture
def told_there(second: LockClient) -> Told:
    """What a listener of the second client was told."""
    listener = Told()
    second.add_listener(listener)
    return listener


async def test_an_uncontended_acquisition(
    world: World, first: LockClient, told: Told, style: str
) -> None:
    """It waits for Redis' answer, has the lock, gives it up; no event has the token."""
    async with held(world.lock(first, timeout=3.0), style) as lease:
        assert told.order == "W1 A1"
        token = lease.token
    assert told.order == "W1 A1 R1"
    waiting, acquired, released = told.events
    number = waiting.acquisition
    assert waiting == Waiting("wallet", number, 3.0)
    assert acquired == Acquired("wallet", number, lease.fencing_token, told.only(Acquired).waited)
    assert released == Released(
        "wallet", number, lease.fencing_token, told.only(Released).held, None
    )
    assert 0 < told.only(Acquired).waited < 5
    assert 0 <= told.only(Released).held < 5
    assert token not in repr(told.events)


async def test_a_local_handoff(world: World, first: LockClient, told: Told) -> None:
    """The former holder has released before the next one has the lock from it."""
    lock = world.lock(first)
    async with lock:
        next_one = asyncio.create_task(_visit(first, world))
        await told.until(Waiting, 2)
    await next_one
    assert told.order == "W1 A1 W2 R1 H2 A2 R2"
    assert told.only(HandedOver).local


@pytest.mark.parametrize("way", ["kept", "renewed"])
async def test_a_local_handoff_by_way_of_the_server(world: World, way: str) -> None:
    """So it is where the server is asked first: for the others, or for a longer lease."""
    told = Told()
    client = world.open()
    client.add_listener(told)
    # A lease that is shared by tasks is renewed for the next one that has a longer ttl.
    ours, theirs = (1, 1) if way == "kept" else (128, 128)
    ttl = 5.0 if way == "kept" else 60.0
    async with client:
        lock = world.lock(client, ttl=5.0, local_handoffs=ours)
        later = world.lock(client, ttl=ttl, local_handoffs=theirs)
        async with lock:
            tasks = [asyncio.create_task(_enter(later)) for _ in range(3)]
            await told.until(Waiting, 4)
        await asyncio.gather(*tasks)
        await free(lock)
    told.check_whole()
    assert [event.local for event in told.all(HandedOver)] == [True] * 3
    assert told.order.startswith("W1 A1 W2 W3 W4 R1 ")


@pytest.mark.needs_queue
@pytest.mark.parametrize("world", ORDERED, indirect=True)
async def test_a_remote_handoff(
    world: World, first: LockClient, second: LockClient, told: Told, told_there: Told
) -> None:
    """Granted by message, the lock comes from another process, which has released it."""
    async with world.lock(first) as lease:
        next_one = asyncio.create_task(_enter(world.lock(second, backoff=NEVER)))
        await queued(world.lock(first), 1)
        assert told_there.order == "W1"
    await next_one
    assert told.order == "W1 A1 R1"
    assert told_there.order.replace(" n1", "") == "W1 H1 A1 R1"
    assert not told_there.only(HandedOver).local
    assert told_there.only(Acquired).fencing_token > lease.fencing_token


async def test_a_task_that_runs_out_of_time(
    world: World, first: LockClient, second: LockClient, told_there: Told
) -> None:
    """Its story ends as abandoned, after its timeout."""
    async with world.lock(first):
        with pytest.raises(AcquireTimeout):
            await world.lock(second).acquire(timeout=0.03)
    assert told_there.order == "W1 B1"
    assert told_there.only(Waiting).timeout == 0.03
    assert told_there.only(Abandoned).reason == "timeout"
    assert 0.03 <= told_there.only(Abandoned).waited < 5
    await free(world.lock(first))


@pytest.mark.parametrize("same_process", [True, False], ids=["same process", "another process"])
async def test_a_task_that_only_tries(
    world: World, first: LockClient, second: LockClient, told: Told, same_process: bool
) -> None:
    """Refused, by its own process or by Redis, it leaves at once."""
    async with world.lock(first if same_process else second):
        told.events.clear()
        assert await world.lock(first).try_acquire() is None
        with pytest.raises(AcquireTimeout):
            async with world.lock(first).hold(timeout=0):
                raise AssertionError
    assert told.stories[:2] == ["WB", "WB"]
    assert [event.reason for event in told.all(Abandoned)] == ["refused"] * 2


async def test_a_task_that_is_cancelled_while_it_waits(
    world: World, first: LockClient, second: LockClient, told_there: Told
) -> None:
    """Its story ends as abandoned; one that is cancelled with its grant gives it back."""
    async with world.lock(first):
        task = asyncio.create_task(_visit(second, world))
        await told_there.until(Waiting)
        await turns()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert told_there.order == "W1 B1"
    assert told_there.only(Abandoned).reason == "cancelled"
    await free(world.lock(first))


async def test_a_task_that_is_cancelled_in_the_turn_of_its_grant(
    world: World, first: LockClient, second: LockClient, told: Told
) -> None:
    """It has the lock and gives it back, and so it is told; even if a listener cancels it."""
    task = asyncio.create_task(_visit(first, world))
    first.add_listener(
        lambda event: task.cancel() if isinstance(event, Acquired) and not task.done() else None
    )
    await asyncio.wait([task])
    assert task.cancelled()
    await free(world.lock(second))
    assert told.order == "W1 A1 R1"


async def test_a_lease_that_is_found_lost(
    world: World, first: LockClient, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    """The loss ends the story, with its reason, and the log has one line of it."""
    with pytest.raises(LeaseLost):
        async with world.lock(first) as lease:
            lose(lease, "said the test")
            assert told.order == "W1 A1 L1"
            await asyncio.sleep(20)
    assert told.order == "W1 A1 L1"
    lost = told.only(Lost)
    assert (lost.reason, lost.fencing_token) == ("said the test", lease.fencing_token)
    assert _warnings(caplog) == [
        f"lease on 'wallet' lost: said the test (fencing token {lease.fencing_token})"
    ]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"ttl": 0.06, "auto_renew": False}, "it was not renewed before its deadline"),
        ({"max_hold": 0.05}, "max_hold is over"),
    ],
    ids=["deadline", "max_hold"],
)
async def test_a_lease_that_runs_out(
    world: World, first: LockClient, told: Told, options: dict[str, Any], reason: str
) -> None:
    """At its end the lease is lost, and why is told."""
    with pytest.raises(LeaseLost):
        async with world.lock(first, **options):
            await asyncio.sleep(20)
    assert told.order == "W1 A1 L1"
    assert told.only(Lost).reason == reason
    await free(world.lock(first))


@pytest.mark.parametrize("by_hand", [False, True], ids=["block", "by hand"])
async def test_a_loss_that_only_the_release_shows(
    world: World,
    first: LockClient,
    told: Told,
    by_hand: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is a loss like any other: told once, logged once, and no release."""
    async with world.lock(first, "longer"):
        pass  # or a quorum's release would wait for its nodes no longer than such a ttl lets it
    told.events.clear()
    lock = world.lock(first, ttl=0.06, auto_renew=False)
    lease = await lock.acquire() if by_hand else None
    with pytest.raises(LeaseLost):
        async with contextlib.AsyncExitStack() as stack:
            if lease is None:
                lease = await stack.enter_async_context(lock)
            # The loop stands still, and so does the watchdog.
            time.sleep(0.08)
            if by_hand:
                await lease.release()
    assert told.order == "W1 A1 L1"
    assert len(_warnings(caplog)) == 1
    assert _warnings(caplog)[0].startswith("lease on 'wallet' lost: ")


async def test_a_client_that_is_closed(
    world: World, first: LockClient, told: Told, second: LockClient
) -> None:
    """Who holds loses the lease, who waits leaves; nothing is told after that."""
    lease = await world.lock(first).acquire()
    waiting = asyncio.create_task(world.lock(first).acquire())
    await told.until(Waiting, 2)
    await first.aclose()
    with pytest.raises(LockError):
        await waiting
    assert sorted(told.stories) == ["WAL", "WB"]
    assert told.only(Lost).reason == "its LockClient was closed"
    assert told.only(Abandoned).reason == "closed"
    assert not lease.is_held
    await free(world.lock(second))


async def test_a_renewal(world: World, first: LockClient, told: Told) -> None:
    """The watchdog's and the user's: with the lag since it was due."""
    async with world.lock(first, ttl=1.5) as lease:
        await told.until(Renewed)
        await lease.extend(60.0)
    # Another one of the watchdog's own may have come before the extension.
    (story,) = told.stories
    assert re.fullmatch("WAnn+R", story)
    # Looked at up to a step of the wheel early, which does not count as late.
    for renewed in told.all(Renewed):
        assert renewed.fencing_token == lease.fencing_token
        assert 0 < renewed.lag < 5


async def test_a_hand_off_and_a_shorter_lease_are_not_late(
    world: World, first: LockClient, second: LockClient, told: Told
) -> None:
    """Their renewals are due at once, not a part of the ttl before the lease began."""
    lease = await world.lock(second, ttl=60.0).acquire()
    waiting = asyncio.create_task(world.lock(first, ttl=60.0).acquire())
    await told.until(Waiting)
    await lease.release()
    lease = await waiting
    await lease.extend(10.0)
    while len(told.all(Renewed)) < 2:
        await asyncio.sleep(0)
    await lease.release()
    for renewed in told.all(Renewed):
        assert 0 <= renewed.lag < 20


@pytest.mark.needs_queue
@pytest.mark.parametrize("world", ORDERED, indirect=True)
async def test_permits_are_told_of_as_a_lock_is(
    world: World, first: LockClient, second: LockClient, told: Told, told_there: Told
) -> None:
    """Those who have one beside each other, or none, or two by message, and lose them."""
    here, there = (
        client.semaphore("gpu", 2, namespace=world.namespace, ttl=HOUR, backoff=NEVER)
        for client in (first, second)
    )
    async with here as lease, here:
        assert told.order == "W1 A1 W2 A2"
        with pytest.raises(AcquireTimeout):
            await there.acquire(timeout=0.03)
        assert await there.try_acquire() is None
        assert told_there.order == "W1 B1 W2 B2"
        assert [each.reason for each in told_there.all(Abandoned)] == ["timeout", "refused"]
        told_there.events.clear()
        losing = asyncio.create_task(_enter_and_lose(there.hold(permits=2)))
        while not (await here.inspect()).waiters:
            await asyncio.sleep(0)
    await losing
    assert told.order == "W1 A1 W2 A2 R2 R1"
    assert told_there.order.replace(" n1", "") == "W1 H1 A1 L1"
    assert told_there.only(Lost).reason == "said the test"
    assert not told_there.only(HandedOver).local
    for listener in (told, told_there):
        assert {event.kind for event in listener.all(Waiting)} == {"semaphore"}
        assert {event.name for event in listener.events} == {"gpu"}
        for event in listener.all(Acquired):
            assert 0 <= event.waited < HOUR
    assert told.all(Acquired)[0].fencing_token == lease.fencing_token
    inner, outer = told.all(Released)
    assert 0 <= inner.held <= outer.held < HOUR
    while (await here.inspect()).leases:
        await asyncio.sleep(0)


async def test_permits_that_are_handed_over_in_memory_are_told_so() -> None:
    """To the next task, from the one that has released them."""
    told = Told()
    async with LockClient.in_memory(clock=ManualClock()) as client:
        client.add_listener(told)
        semaphore = client.semaphore("gpu", 1)
        async with semaphore:
            next_one = asyncio.create_task(_enter(semaphore))
            await told.until(Waiting, 2)
        await next_one
    assert told.order == "W1 A1 W2 R1 H2 A2 R2"
    assert told.only(HandedOver).local
    assert [event.source for event in told.all(Acquired)] == ["redis", "local"]


@pytest.mark.needs_queue
@pytest.mark.parametrize("world", ORDERED, indirect=True)
async def test_readers_and_writers_are_told_of_as_what_they_are(
    world: World, first: LockClient, second: LockClient, told: Told, told_there: Told
) -> None:
    """Each reader of a shared lease for itself, also when that is lost; a writer by message."""
    here, there = (
        client.rwlock("doc", namespace=world.namespace, ttl=HOUR, backoff=NEVER)
        for client in (first, second)
    )
    reading = asyncio.Event()

    async def read_and_lose() -> None:
        with pytest.raises(LeaseLost):
            async with here.read() as lease:
                await reading.wait()
                lose(lease, "said the test")
                await asyncio.sleep(20)

    async with here.read() as version:
        assert told.order == "W1 A1"
    told.events.clear()
    tasks = [asyncio.create_task(read_and_lose()) for _ in range(2)]
    await told.until(Acquired, 2)
    writing = asyncio.create_task(_enter(there.write()))
    await queued(world.lock(first, "doc"), 1)
    reading.set()
    await asyncio.gather(*tasks, writing)
    told.check_whole()
    assert [event.reason for event in told.all(Lost)] == ["said the test"] * 2
    assert {event.fencing_token for event in told.all(Acquired)} == {version.fencing_token}
    assert told_there.order.replace(" n1", "") == "W1 H1 A1 R1"
    assert not told_there.only(HandedOver).local
    assert {event.kind for event in told.all(Waiting)} == {"read"}
    assert {event.kind for event in told_there.all(Waiting)} == {"write"}
    await free(world.lock(first, "doc"))


@pytest.mark.needs_queue
@pytest.mark.parametrize("world", ORDERED, indirect=True)
async def test_an_upgrade_is_an_acquisition_to_write_and_a_downgrade_one_to_read(
    world: World, first: LockClient, second: LockClient, told: Told
) -> None:
    """So what reads for long is not told as what writes; who upgrades in vain reads on."""
    here, there = (
        client.rwlock("doc", namespace=world.namespace, ttl=HOUR, backoff=NEVER)
        for client in (first, second)
    )
    async with here.upgradeable() as lease:
        async with there.read():
            with pytest.raises(AcquireTimeout):
                await lease.upgrade(timeout=0.03)
        assert told.order == "W1 A1 W2 B2"
        await lease.upgrade()
        assert told.order == "W1 A1 W2 B2 W3 R1 A3"
        await lease.downgrade()
        assert lease.mode == "upgradeable"
    told.check_whole()
    assert told.order == "W1 A1 W2 B2 W3 R1 A3 R3 W4 A4 R4"
    assert [event.kind for event in told.all(Waiting)] == ["read", "write", "write", "read"]
    assert told.all(Acquired)[1].fencing_token == told.all(Acquired)[2].fencing_token
    await free(world.lock(first, "doc"))


async def test_a_reentrant_acquisition_is_no_other(
    world: World, first: LockClient, told: Told
) -> None:
    """The lease of the outermost block is the only one."""
    lock = world.lock(first, reentrant=True)
    async with lock, lock:
        pass
    assert told.order == "W1 A1 R1"


async def test_a_listener_hears_whole_stories_only(
    world: World, first: LockClient, told: Told
) -> None:
    """One that is added or removed while somebody holds hears nothing of it, or all."""
    late = Told()
    async with world.lock(first):
        first.add_listener(late)
        first.remove_listener(told)
    async with world.lock(first):
        pass
    assert told.order == late.order == "W1 A1 R1"
    assert told.events[0].acquisition != late.events[0].acquisition


async def test_whatever_happens_stories_are_whole(
    world: World, processes: list[LockClient]
) -> None:
    """Tasks of several processes that try, wait, time out, are cancelled, lose their lease."""
    told = Told()
    for client in processes:
        client.add_listener(told)
    rng = random.Random(7)

    async def act(client: LockClient) -> None:
        lock = world.lock(client, rng.choice("ab"), local_handoffs=rng.choice((0, 1, 128)))
        with contextlib.suppress(LockError):
            async with lock.hold(timeout=rng.choice((None, 0, 0.01, 1.0))) as lease:
                await turns(rng.randrange(4))
                if rng.random() < 0.1:
                    lose(lease)
                    await turns(3)

    tasks = [asyncio.create_task(act(rng.choice(processes))) for _ in range(120)]
    for task in rng.sample(tasks, 40):
        await turns(rng.randrange(3))
        task.cancel()
    await asyncio.wait(tasks)
    for name in "ab":
        await free(world.lock(processes[0], name))
    told.check_whole()
    assert len(told.stories) > 80


async def _visit(client: LockClient, world: World) -> None:
    async with world.lock(client):
        pass


async def _enter_and_lose(block: Hold) -> None:
    with pytest.raises(LeaseLost):
        async with block as lease:
            lose(lease, "said the test")
            await asyncio.sleep(20)


async def _enter(lock: object) -> None:
    async with lock:  # type: ignore[attr-defined]  # an AsyncLock
        pass


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        each.getMessage()
        for each in caplog.records
        if each.name == "aiodistlock" and each.levelname == "WARNING"
    ]
