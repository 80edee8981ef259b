"""What a read/write lock promises, wherever it is held."""

import asyncio
import gc
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from anyio import fail_after

from aiodistlock import (
    AcquireTimeout,
    LeaseLost,
    LockClient,
    LockError,
    NotHeld,
    ReadWriteLease,
    ReadWriteLock,
    Side,
)
from tests.contract.world import ORDERED, World, queued, turns

pytestmark = pytest.mark.parametrize("world", ORDERED, indirect=True)

LONG = 30.0


def rwlock(world: World, client: LockClient, **options: Any) -> ReadWriteLock:
    """Make a read/write lock in the test's own namespace."""
    return client.rwlock("wallet", **{"ttl": LONG, "namespace": world.namespace, **options})


@dataclass
class Page:
    """Notices a writer beside anybody, and which version each reader has read."""

    readers: int = 0
    writers: int = 0
    written: int = 0
    most: int = 0
    log: list[str] = field(default_factory=list)

    async def read(self, lease: ReadWriteLease) -> None:
        """Read while others may."""
        assert self.writers == 0, "somebody writes"
        assert lease.fencing_token >= self.written
        self.readers += 1
        self.most = max(self.most, self.readers)
        self.log.append("r")
        for _ in range(3):
            await asyncio.sleep(0)
            assert self.writers == 0, "somebody writes"
        self.readers -= 1

    async def write(self, lease: ReadWriteLease) -> None:
        """Write, beside nobody."""
        assert not self.readers, "somebody reads"
        assert not self.writers, "somebody writes"
        assert lease.fencing_token > self.written
        self.writers += 1
        self.log.append("w")
        for _ in range(3):
            await asyncio.sleep(0)
        self.written = lease.fencing_token
        self.writers -= 1


async def holding(side: Side, page: Page) -> None:
    """Hold a side for one visit."""
    async with side as lease:
        await (page.write(lease) if lease.mode == "write" else page.read(lease))


async def eventually(holds: Callable[[], bool]) -> None:
    """Wait for something that must become true."""
    with fail_after(20):
        while not holds():
            await asyncio.sleep(0.001)


async def test_readers_read_together_and_a_writer_writes_alone(
    world: World, first: LockClient, second: LockClient
) -> None:
    """Also across processes."""
    ours, theirs = rwlock(world, first), rwlock(world, second)
    async with ours.read() as one, theirs.read() as other:
        assert one.mode == other.mode == "read"
        assert await theirs.write().try_acquire() is None
        assert await ours.write().try_acquire() is None
    async with ours.write() as lease:
        assert lease.mode == "write"
        assert await theirs.read().try_acquire() is None
        assert await theirs.write().try_acquire() is None
        assert await theirs.upgradeable().try_acquire() is None
    async with theirs.write():
        pass


async def test_a_reader_carries_the_version_that_the_last_writer_wrote(
    world: World, first: LockClient, second: LockClient
) -> None:
    """Its fencing token is that of the last writer, and the next writer's is above it."""
    ours, theirs = rwlock(world, first), rwlock(world, second)
    async with ours.read() as before:
        pass
    async with ours.write() as writer:
        assert writer.fencing_token > before.fencing_token
    for _ in range(2):
        async with theirs.read() as one, ours.read() as other:
            assert one.fencing_token == other.fencing_token == writer.fencing_token
    async with theirs.write() as later:
        assert later.fencing_token > writer.fencing_token


async def test_the_version_is_the_last_of_several_local_writers(
    world: World, first: LockClient, second: LockClient
) -> None:
    """Tasks of one process hand over in memory, each with a token of its own."""
    ours, fences = rwlock(world, first), []

    async def write() -> None:
        async with ours.write() as lease:
            fences.append(lease.fencing_token)
            await turns()

    await asyncio.gather(*[write() for _ in range(4)])
    assert fences == sorted(set(fences))
    async with rwlock(world, second).read() as lease:
        assert lease.fencing_token == fences[-1]


@pytest.mark.needs_queue
async def test_a_plain_lock_of_the_name_is_a_writer(
    world: World, first: LockClient, second: LockClient
) -> None:
    """In both directions, and the version is never below what it may have written."""
    ours, plain = rwlock(world, first), world.lock(second, ttl=LONG)
    async with ours.read():
        assert await plain.try_acquire() is None
    async with plain as lease:
        assert await ours.read().try_acquire() is None
        assert await ours.write().try_acquire() is None
        reading = asyncio.create_task(ours.read().acquire())
        await queued(plain, 1)
    reader = await reading
    assert reader.fencing_token >= lease.fencing_token
    writing = asyncio.create_task(plain.acquire())
    await queued(plain, 1)
    await reader.release()
    with fail_after(20):
        await (await writing).release()


@pytest.mark.needs_queue
async def test_who_wants_to_read_behind_a_writer_that_waits_comes_after_it(
    world: World, processes: list[LockClient]
) -> None:
    """First come, first served; and all readers behind each other come together."""
    page, look = Page(), world.lock(processes[0])
    held = await rwlock(world, processes[0]).read().acquire()
    tasks = []
    for place, mode in enumerate("wrrwr", 1):
        rw = rwlock(world, processes[place % 4])
        side = rw.write() if mode == "w" else rw.read()
        if mode == "r":  # a process queues once for all of its readers
            side = rwlock(world, processes[place % 4 if place < 5 else 1]).read()
        tasks.append(asyncio.create_task(holding(side, page)))
        await queued(look, place)
    await held.release()
    with fail_after(20):
        await asyncio.gather(*tasks)
    assert page.log == ["w", "r", "r", "w", "r"]


@pytest.mark.needs_queue
async def test_a_try_to_read_does_not_pass_a_writer_that_waits(
    world: World, processes: list[LockClient]
) -> None:
    """It is refused, and leaves nothing behind."""
    held = await rwlock(world, processes[0]).read().acquire()
    writing = asyncio.create_task(rwlock(world, processes[1]).write().acquire())
    await queued(world.lock(processes[0]), 1)
    assert await rwlock(world, processes[2]).read().try_acquire() is None
    await queued(world.lock(processes[0]), 1)
    await held.release()
    with fail_after(20):
        await (await writing).release()


@pytest.mark.needs_queue
async def test_a_writer_that_gives_up_lets_the_readers_behind_it_in(
    world: World, processes: list[LockClient]
) -> None:
    """At once: not when their next question would find it out."""
    held = await rwlock(world, processes[0]).read().acquire()
    writing = asyncio.create_task(rwlock(world, processes[1]).write().acquire())
    look = world.lock(processes[0])
    await queued(look, 1)
    reading = asyncio.create_task(rwlock(world, processes[2]).read().acquire())
    await queued(look, 2)
    writing.cancel()
    with fail_after(20):
        await (await reading).release()
    await held.release()
    async with rwlock(world, processes[3]).write():
        pass


@pytest.mark.needs_queue
async def test_a_stream_of_readers_does_not_starve_a_writer(
    world: World, processes: list[LockClient]
) -> None:
    """None of those that came more than a span behind it reads before it writes."""
    page, stop = Page(), asyncio.Event()

    async def stream(client: LockClient) -> None:
        rw = rwlock(world, client)
        while not stop.is_set():
            async with rw.read() as lease:
                await page.read(lease)
                await asyncio.sleep(0.001)

    tasks = [asyncio.create_task(stream(client)) for client in processes[:3] for _ in range(5)]
    await eventually(lambda: page.most > 1)
    for _ in range(5):
        with fail_after(20):
            await holding(rwlock(world, processes[3]).write(), page)
        read = page.log.count("r")
        await eventually(lambda read=read: page.log.count("r") > read)  # type: ignore[misc]  # a default
    stop.set()
    await asyncio.gather(*tasks)


async def test_everybody_gets_on_and_nobody_writes_beside_anybody(
    world: World, processes: list[LockClient]
) -> None:
    """Readers, writers, and those that read and then write, all at once."""
    page = Page()

    async def upgrade(client: LockClient) -> None:
        async with rwlock(world, client).upgradeable() as lease:
            await page.read(lease)
            await lease.upgrade()
            await page.write(lease)
            await lease.downgrade()
            await page.read(lease)

    with fail_after(40):
        await asyncio.gather(
            *[holding(rwlock(world, each).read(), page) for each in processes for _ in range(5)],
            *[holding(rwlock(world, each).write(), page) for each in processes for _ in range(2)],
            *[upgrade(each) for each in processes],
        )
    assert page.log.count("w") == 12
    assert page.log.count("r") == 28


@pytest.mark.needs_queue
async def test_an_upgradeable_reader_reads_beside_others_and_only_one_at_a_time(
    world: World, first: LockClient, second: LockClient
) -> None:
    """The second one waits for the first one, not for the readers."""
    ours, theirs = rwlock(world, first), rwlock(world, second)
    async with ours.upgradeable() as one, theirs.read() as reader:
        assert (one.mode, reader.mode) == ("upgradeable", "read")
        assert await theirs.upgradeable().try_acquire() is None
        waiting = asyncio.create_task(theirs.upgradeable().acquire())
        await queued(world.lock(first), 1)
        await one.release()
        with fail_after(20):
            other = await waiting
        assert other.mode == "upgradeable"
        await other.release()


@pytest.mark.needs_queue
async def test_an_upgrade_waits_for_the_readers_and_comes_before_those_in_the_queue(
    world: World, processes: list[LockClient]
) -> None:
    """A writer that waited longer writes after it, or they would wait for each other."""
    reader = await rwlock(world, processes[0]).read().acquire()
    lease = await rwlock(world, processes[1]).upgradeable().acquire()
    before = lease.fencing_token
    writing = asyncio.create_task(rwlock(world, processes[2]).write().acquire())
    look = world.lock(processes[0])
    await queued(look, 1)
    upgrading = asyncio.create_task(lease.upgrade())
    await queued(look, 2)
    assert await rwlock(world, processes[3]).read().try_acquire() is None
    await reader.release()
    with fail_after(20):
        await upgrading
    assert lease.mode == "write"
    assert lease.fencing_token > before
    assert not writing.done()
    await lease.release()
    with fail_after(20):
        other = await writing
    assert other.fencing_token > lease.fencing_token
    await other.release()


@pytest.mark.needs_queue
async def test_an_upgrade_of_the_only_reader_is_granted_at_once(
    world: World, first: LockClient, second: LockClient
) -> None:
    """Also before a writer that waits."""
    lease = await rwlock(world, first).upgradeable().acquire()
    writing = asyncio.create_task(rwlock(world, second).write().acquire())
    await queued(world.lock(first), 1)
    with fail_after(20):
        await lease.upgrade(0.0)
    await lease.release()
    with fail_after(20):
        await (await writing).release()


@pytest.mark.needs_queue
async def test_a_downgrade_lets_readers_in_and_no_writer(
    world: World, processes: list[LockClient]
) -> None:
    """They read what it has written."""
    look = world.lock(processes[0])
    lease = await rwlock(world, processes[0]).write().acquire()
    reading = asyncio.create_task(rwlock(world, processes[1]).read().acquire())
    await queued(look, 1)
    writing = asyncio.create_task(rwlock(world, processes[2]).write().acquire())
    await queued(look, 2)
    fence = lease.fencing_token
    await lease.downgrade()
    assert (lease.mode, lease.fencing_token) == ("read", fence)
    with fail_after(20):
        reader = await reading
    assert reader.fencing_token == fence
    assert not writing.done()
    await lease.release()
    await reader.release()
    with fail_after(20):
        await (await writing).release()


async def test_who_was_upgradeable_is_so_again_after_a_downgrade(
    world: World, first: LockClient, second: LockClient
) -> None:
    """And may write again, with a higher token."""
    fences = []
    async with rwlock(world, first).upgradeable() as lease:
        for _ in range(3):
            await lease.upgrade()
            fences.append(lease.fencing_token)
            await lease.downgrade()
            assert lease.mode == "upgradeable"
            async with rwlock(world, second).read() as reader:
                assert reader.fencing_token == fences[-1]
    assert fences == sorted(set(fences))
    async with rwlock(world, second).write():
        pass


async def test_who_changes_sides_keeps_what_it_was_extended_to(
    world: World, first: LockClient, second: LockClient
) -> None:
    """The server lets it have the lease for as long as it relies on it."""
    others = rwlock(world, second, ttl=2.0).write()
    async with rwlock(world, first, ttl=2.0).upgradeable() as lease:
        for change in (lease.upgrade, lease.downgrade):
            await lease.extend(60.0)
            await change()
            with pytest.raises(AcquireTimeout) as timed_out:
                await others.acquire(0.05)
            assert timed_out.value.holder_ttl is not None
            assert timed_out.value.holder_ttl > 30.0


@pytest.mark.needs_queue
async def test_an_upgrade_that_is_out_of_time_reads_on(
    world: World, processes: list[LockClient]
) -> None:
    """Others read again, and it may try again."""
    reader = await rwlock(world, processes[0]).read().acquire()
    lease = await rwlock(world, processes[1]).upgradeable().acquire()
    with pytest.raises(AcquireTimeout):
        await lease.upgrade(0.05)
    assert lease.mode == "upgradeable"
    lease.check()
    with fail_after(20):
        async with rwlock(world, processes[2]).read():
            pass
    upgrading = asyncio.create_task(lease.upgrade())
    await queued(world.lock(first := processes[0]), 1)
    upgrading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upgrading
    await queued(world.lock(first), 0)
    await reader.release()
    await lease.upgrade()
    await lease.release()
    with pytest.raises(NotHeld):
        await lease.downgrade()


async def test_a_plain_reader_is_told_at_once_that_it_cannot_upgrade(
    world: World, first: LockClient
) -> None:
    """Two of them would wait for each other for ever."""
    async with rwlock(world, first).read() as lease:
        with pytest.raises(LockError, match="upgradeable"):
            await lease.upgrade()
        with pytest.raises(LockError, match="only a writer"):
            await lease.downgrade()
        lease.check()
    async with rwlock(world, first).write() as lease:
        with pytest.raises(LockError, match="already"):
            await lease.upgrade()


@pytest.mark.needs_queue
async def test_a_task_is_told_that_it_would_wait_for_itself(
    world: World, first: LockClient
) -> None:
    """A reader that wants to write, and a writer that wants to read; a reader may read again."""
    rw = rwlock(world, first)
    async with rw.read():
        for side in (rw.write(), rw.upgradeable()):
            with pytest.raises(LockError, match="itself"):
                await side.acquire()
        writing = asyncio.create_task(rw.write().acquire())
        await queued(world.lock(first), 1)
        with fail_after(20):
            async with rw.read():
                pass
    await (await writing).release()
    async with rw.write():
        for side in (rw.read(), rw.write(), rw.upgradeable()):
            with pytest.raises(LockError, match="itself"):
                await side.acquire()
            assert await side.try_acquire() is None
    async with rw.upgradeable():
        for side in (rw.read(), rw.write(), rw.upgradeable()):
            with pytest.raises(LockError, match="itself"):
                await side.acquire()


@pytest.mark.needs_queue
async def test_the_end_of_the_client_ends_what_is_read_and_waited_for(
    world: World, first: LockClient, second: LockClient
) -> None:
    """And whoever waits elsewhere comes in."""
    told = []

    async def read() -> None:
        try:
            async with rwlock(world, first).read():
                await asyncio.sleep(60)
        except LeaseLost:
            told.append("lost")

    reading = [asyncio.create_task(read()) for _ in range(3)]
    await eventually(lambda: first.health().held == 3)
    writing = asyncio.create_task(rwlock(world, second).write().acquire())
    await queued(world.lock(second), 1)
    await first.aclose()
    with fail_after(20):
        await asyncio.gather(*reading)
        await (await writing).release()
    assert told == ["lost"] * 3


@pytest.mark.filterwarnings("ignore:nobody has the lease")
async def test_a_reader_that_its_user_forgot_is_released(
    world: World, first: LockClient, second: LockClient
) -> None:
    """Its share of the lease, and with the last of them the lease."""
    kept = await rwlock(world, first).read().acquire()
    await rwlock(world, first).read().acquire()
    gc.collect()
    await eventually(lambda: first.health().held == 1)
    kept.check()
    await kept.release()
    with fail_after(20):
        async with rwlock(world, second).write():
            pass


async def test_an_extension_of_a_shared_lease_makes_it_no_shorter(
    world: World, first: LockClient
) -> None:
    """The others rely on it."""
    rw = rwlock(world, first)
    async with rw.read() as one:
        await one.extend(5.0)
        assert one.validity < 6.0
        async with rw.read() as other:
            await one.extend(60.0)
            assert other.validity > 50.0
            await other.extend(5.0)
            assert one.validity > 50.0
