"""Read/write locks under kills, stops, lost connections and crowds."""

import asyncio
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio as redis_asyncio
from anyio import fail_after

from aiodistlock import LeaseLost, LockClient, ReadWriteLock
from tests.faults.world import (
    EAGER,
    PATIENT,
    SCRIPTS,
    client,
    eventually,
    load_scripts,
    nothing_left,
    waiters,
)
from tests.proxy import ChaosProxy

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.bounded(180)

TTL = 20.0


def rwlock(source: LockClient, namespace: str, **options: Any) -> ReadWriteLock:
    """Build a read/write lock on the test's name."""
    return source.rwlock("n", **{"ttl": TTL, "namespace": namespace, "backoff": PATIENT, **options})


@asynccontextmanager
async def clients(url: str, count: int, **options: Any) -> AsyncIterator[list[LockClient]]:
    """Open as many clients."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(client(url, **options)) for _ in range(count)]


class Acts:
    """What processes say that they have done."""

    def __init__(self) -> None:
        self.said: list[tuple[float, int, str]] = []
        """When, under which fencing token, and what."""

    async def listen(self, process: asyncio.subprocess.Process) -> None:
        """Hear one process until its end; what it could not say whole it did not do."""
        assert process.stdout is not None
        async for line in process.stdout:
            words = line.decode().split()
            if line.endswith(b"\n") and len(words) == 3:
                self.said.append((float(words[2]), int(words[1]), words[0]))

    def judge(self) -> None:
        """Nobody has acted between the acts of one writer, and no version was read too late."""
        acts = sorted(self.said)
        last = {fence: at for at, fence, what in acts if what == "w"}
        current = written = 0
        for at, fence, what in acts:
            if current and at < last[current]:
                assert (what, fence) == ("w", current), f"{what} {fence} beside writer {current}"
            if what == "w":
                assert fence >= current, "fencing tokens of writers rise"
                current = written = fence
            else:
                assert fence >= written, f"version {fence} was read behind {written}"


async def test_no_writer_acts_beside_anybody_under_kills_and_stops(
    redis_url: str, namespace: str, redis: redis_asyncio.Redis
) -> None:
    """By their own word; and who lives gets on."""
    acts, hearing, running = Acts(), [], []

    async def start() -> None:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.faults.readwrite_main", redis_url, namespace, "0.5"),
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        running.append(process)
        hearing.append(asyncio.create_task(acts.listen(process)))

    async def more(count: int = 10) -> None:
        """Wait until more was written by somebody."""

        async def written() -> bool:
            return len({fence for _, fence, what in acts.said if what == "w"}) >= wanted

        wanted = len({fence for _, fence, what in acts.said if what == "w"}) + count
        await eventually(written, True, within=60)

    for _ in range(3):
        await start()
    try:
        await more()
        for number in range(4):
            process = running[number % len(running)]
            if number % 2:
                running.remove(process)
                process.kill()
                await start()
            else:
                process.send_signal(signal.SIGSTOP)
                await more(3)
                process.send_signal(signal.SIGCONT)
            await more(5)
        for process in running:
            process.send_signal(signal.SIGTERM)
        await asyncio.gather(*hearing)
    finally:
        for process in running:
            with suppress(ProcessLookupError):
                process.kill()
    acts.judge()
    assert sum(what == "r" for *_, what in acts.said) > 20
    await nothing_left(redis, namespace)  # what was killed has expired


async def test_a_thousand_local_readers_cost_four_requests_at_most(
    redis_url: str, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """They share one lease: one acquires it, and the last one releases it."""
    proxy = ChaosProxy.before(redis_url)
    proxy.script_names = SCRIPTS
    await load_scripts(redis)
    inside = most = 0

    async def read(rw: ReadWriteLock) -> None:
        nonlocal inside, most
        async with rw.read():
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.01)
            inside -= 1

    async with proxy, client(proxy.url, handoff_span=10.0) as here:
        rw = rwlock(here, namespace)
        async with rw.read():
            pass
        before = proxy.requests.copy()
        await asyncio.gather(*(read(rw) for _ in range(1000)))
        spent = proxy.requests - before
    assert most > 500
    assert 2 <= sum(spent[name] for name in SCRIPTS.values()) <= 4


async def test_who_reads_beside_another_here_costs_no_request(
    redis_url: str, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """One after the other, too: each joins the lease that there is, until its span is over."""
    proxy = ChaosProxy.before(redis_url)
    proxy.script_names = SCRIPTS
    await load_scripts(redis)
    async with proxy, client(proxy.url, handoff_span=60.0) as here:
        rw = rwlock(here, namespace, ttl=60.0)
        async with rw.read():
            before = proxy.requests.copy()
            for _ in range(100):
                async with rw.read():
                    pass
                await asyncio.create_task(_visit(rw))
            spent = proxy.requests - before
    assert not sum(spent[name] for name in SCRIPTS.values())


async def _visit(rw: ReadWriteLock) -> None:
    async with rw.read():
        pass


@pytest.mark.parametrize("kind", ["rwlock", "lock"])
async def test_a_stream_of_fifty_readers_lets_a_writer_in(
    redis_url: str, redis: redis_asyncio.Redis, namespace: str, kind: str
) -> None:
    """Of those that come behind it none reads before it, but what was under way already."""
    log: list[str] = []
    stop = asyncio.Event()

    async def stream(rw: ReadWriteLock) -> None:
        while not stop.is_set():
            async with rw.read():
                log.append("r")
                await asyncio.sleep(random.uniform(0.0, 0.01))

    # Whether anybody waits is asked for with each that comes.
    async with clients(redis_url, 3, handoff_span=0.0) as here, client(redis_url) as there:
        tasks = [
            asyncio.create_task(stream(rwlock(here[number % 3], namespace))) for number in range(50)
        ]
        for _ in range(10):
            read = log.count("r")
            side = (
                rwlock(there, namespace).write()
                if kind == "rwlock"
                else there.lock("n", ttl=TTL, namespace=namespace, backoff=PATIENT)
            )

            async def write(side: Any = side) -> None:
                async with side:
                    log.append("w")

            writing = asyncio.create_task(write())
            await eventually(
                partial(_queued_or_done, redis, namespace, writing),
                True,
                within=60,
            )
            queued_at = len(log)
            with fail_after(60):
                await writing
            behind = log[queued_at:]
            if "w" in behind:
                # Each task once, of what had been let in but not run yet; and a lease for each.
                assert behind.index("w") <= 100

            async def goes_on(read: int = read) -> bool:
                return log.count("r") > read + 20

            await eventually(goes_on, True, within=60)
        stop.set()
        await asyncio.gather(*tasks)
    await nothing_left(redis, namespace)


async def _queued_or_done(
    redis: redis_asyncio.Redis, namespace: str, writing: asyncio.Task[None]
) -> bool:
    return writing.done() or await waiters(redis, namespace, "n") > 0


async def test_redis_pys_lock_and_a_read_write_lock_exclude_each_other(
    redis_url: str, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """It is a writer, that polls."""
    theirs = redis.lock(f"{namespace}n", timeout=TTL, blocking=False)
    async with client(redis_url) as here:
        rw = rwlock(here, namespace, backoff=EAGER)
        async with rw.read() as one:
            assert not await theirs.acquire()
            async with rw.read():
                pass
        async with rw.write():
            assert not await theirs.acquire()
        assert await theirs.acquire()
        for side in (rw.read(), rw.write(), rw.upgradeable()):
            assert await side.try_acquire() is None
        reading = [asyncio.create_task(rw.read().acquire()) for _ in range(3)]
        await eventually(lambda: waiters(redis, namespace, "n"), 1)
        await theirs.release()
        with fail_after(60):
            leases = [await each for each in reading]
        assert not await theirs.acquire()
        assert {each.fencing_token for each in leases} != {one.fencing_token}
        for lease in leases:
            await lease.release()
    await nothing_left(redis, namespace)


async def test_a_dead_reader_holds_a_writer_up_for_its_ttl_and_no_reader(
    redis_url: str, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """The others renew meanwhile, and go on."""
    async with clients(redis_url, 3) as (lives, dies, writes):
        living = await rwlock(lives, namespace, ttl=0.6).read().acquire()
        dead = await rwlock(dies, namespace, ttl=3.0).read().acquire()
        dead._client.watchdog.stop()
        dead._client.connection.stop()
        writing = asyncio.create_task(rwlock(writes, namespace, backoff=EAGER).write().acquire())
        await eventually(lambda: waiters(redis, namespace, "n"), 1)
        members = f"aiodistlock:readers:{{{namespace}n}}"
        await eventually(lambda: redis.zcard(members), 1, within=60)
        living.check()
        assert not writing.done()
        await living.release()
        with fail_after(60):
            await (await writing).release()
    await nothing_left(redis, namespace)


async def test_a_flush_ends_what_is_read_and_the_version_rises(
    embedded_redis: Any, namespace: str
) -> None:
    """Each reader is told at its next renewal; what is read later has a higher version."""
    async with (
        clients(embedded_redis.url, 2) as (here, there),
        redis_asyncio.from_url(embedded_redis.url) as admin,
    ):
        rw = rwlock(here, namespace, ttl=0.3)
        seen: list[int] = []

        async def read() -> None:
            async with rw.read() as lease:
                seen.append(lease.fencing_token)
                await admin.flushall()
                await asyncio.sleep(20)
                raise AssertionError("the body went on")

        with pytest.raises(LeaseLost):
            await read()
        async with rwlock(there, namespace).write() as lease:
            seen.append(lease.fencing_token)
        async with rw.read() as lease:
            seen.append(lease.fencing_token)
        assert all(low <= high for low, high in pairwise(seen))
        assert seen[0] < seen[1] == seen[2]


async def test_who_becomes_the_writer_ends_an_upgradeable_reader_of_before_a_flush(
    embedded_redis: Any, namespace: str
) -> None:
    """Its renewal is not taken for one of the reader that has become the writer."""
    async with (
        clients(embedded_redis.url, 1) as (here,),
        redis_asyncio.from_url(embedded_redis.url) as admin,
    ):
        rw = rwlock(here, namespace)
        before = await asyncio.create_task(rw.upgradeable().acquire())
        await admin.flushall()
        async with rw.upgradeable() as lease:
            await lease.upgrade()
            with pytest.raises(LeaseLost, match="another token"):
                await before.extend(TTL)
            lease.check()


@pytest.mark.parametrize("protocol", [3, 2])
async def test_cut_connections_keep_nobody_from_getting_on(
    redis_url: str, redis: redis_asyncio.Redis, namespace: str, protocol: int
) -> None:
    """Readers, writers and upgrades, while all connections are cut again and again."""
    acts: list[tuple[str, int]] = []
    writers = readers = 0

    async def cut(proxy: ChaosProxy) -> None:
        while True:
            await asyncio.sleep(random.uniform(0.0, 0.2))
            await proxy.cut()

    async def visit(what: str, work: Callable[[], Awaitable[None]]) -> None:
        nonlocal writers, readers
        assert not writers
        assert what == "r" or not readers
        writers, readers = writers + (what == "w"), readers + (what == "r")
        await work()
        writers, readers = writers - (what == "w"), readers - (what == "r")

    async def some_turns() -> None:
        for _ in range(3):
            await asyncio.sleep(0)

    async def use(rw: ReadWriteLock, mode: str) -> None:
        for _ in range(3):
            side = {"r": rw.read, "w": rw.write, "u": rw.upgradeable}[mode]()
            async with side as lease:
                await visit("w" if mode == "w" else "r", some_turns)
                acts.append((mode, lease.fencing_token))
                if mode == "u":
                    await lease.upgrade()
                    await visit("w", some_turns)
                    await lease.downgrade()
                    await visit("r", some_turns)

    proxy = ChaosProxy.before(redis_url)
    async with proxy, clients(proxy.url, 2, protocol=protocol, claim_window=TTL) as here:
        cutting = asyncio.create_task(cut(proxy))
        uses = [
            use(rwlock(each, namespace, backoff=EAGER), mode) for each in here for mode in "rrwu"
        ]
        try:
            with fail_after(150):
                await asyncio.gather(*uses)
        finally:
            cutting.cancel()
            await asyncio.gather(cutting, return_exceptions=True)
    assert len(acts) == 24
    await nothing_left(redis, namespace)
