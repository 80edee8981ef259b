"""Many who wait for one name: rarely asking, and still there when those before them are not."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import redis.asyncio as redis_asyncio

from aiodistlock import Lease
from tests.faults.test_processes import Client
from tests.faults.world import client, eventually, nothing_left, waiters

ROOT = Path(__file__).parents[2]

HERD = int(os.environ.get("AIODISTLOCK_HERD", "120"))
"""How many clients there are in the tests that kill half of them."""

TTL = 2.0

pytestmark = pytest.mark.bounded(40 + HERD / 5)

Start = Callable[..., Awaitable[Client]]


@asynccontextmanager
async def running(module: str, *args: str) -> AsyncIterator[Client]:
    """Start a process that does not outlive the test."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", f"tests.faults.{module}", *args, stdout=subprocess.PIPE, cwd=ROOT
    )
    try:
        yield Client(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.fixture
async def start(redis_url: str, namespace: str) -> AsyncIterator[Start]:
    """Start processes of many clients, which do not outlive the test."""
    async with AsyncExitStack() as stack:

        async def run(count: int, *hold: str) -> Client:
            args = (redis_url, namespace, str(count), str(TTL), *hold)
            return await stack.enter_async_context(running("herd_main", *args))

        yield run


@pytest.fixture
def in_queue(redis: redis_asyncio.Redis, namespace: str) -> Callable[[int], Awaitable[None]]:
    """Wait until so many wait at Redis."""

    async def wait(count: int) -> None:
        await eventually(lambda: waiters(redis, namespace, "n"), count, within=10 + HERD / 20)

    return wait


@asynccontextmanager
async def waiting(
    redis_url: str, namespace: str, count: int, ttl: float = TTL
) -> AsyncIterator[list[asyncio.Task[Lease]]]:
    """Have clients of this process wait, each with a connection of its own."""
    async with AsyncExitStack() as stack:
        tasks = []
        for _ in range(count):
            one = await stack.enter_async_context(client(redis_url))
            tasks.append(asyncio.create_task(one.lock("n", namespace=namespace, ttl=ttl).acquire()))
        try:
            yield tasks
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def test_half_of_a_herd_killed_at_once_with_the_holder_costs_the_rest_a_ttl_and_a_second(
    start: Start,
    in_queue: Callable[[int], Awaitable[None]],
    redis: redis_asyncio.Redis,
    namespace: str,
) -> None:
    """The first of the rest has the lock by then; and all who died stand in nobody's way."""
    half = HERD // 2
    doomed = await start(half, "hold")
    await doomed.said("holds")
    rest = await start(half)
    await in_queue(HERD - 1)
    doomed.send(signal.SIGKILL)
    killed = time.monotonic()
    entered = [float((await rest.said("entered"))[0]) - killed for _ in range(half)]
    # A second of the promise's own, and half a one for a busy machine.
    assert entered[0] < TTL + 1.0 + 0.5
    # What is left is to go round: no second wait for a ttl.
    assert entered[-1] - entered[0] < TTL / 2 + half / 100
    await nothing_left(redis, namespace)  # before the last one's process is ended


@pytest.mark.parametrize("survivors", [1, 5])
async def test_all_who_watch_may_be_dead(
    start: Start,
    in_queue: Callable[[int], Awaitable[None]],
    redis_url: str,
    namespace: str,
    survivors: int,
) -> None:
    """Whoever stands behind them all takes over a ttl and a second after the holder's death."""
    doomed = await start(HERD, "hold")
    await doomed.said("holds")
    await in_queue(HERD - 1)
    async with waiting(redis_url, namespace, survivors) as tasks:
        await in_queue(HERD - 1 + survivors)
        doomed.send(signal.SIGKILL)
        killed = time.monotonic()
        entered = []
        for first in asyncio.as_completed(tasks):
            lease = await first
            entered.append(time.monotonic() - killed)
            await lease.release()
        assert entered[0] < TTL + 1.0 + 0.5


async def test_dead_ones_between_holder_and_waiter_are_passed_over_at_once(
    start: Start,
    in_queue: Callable[[int], Awaitable[None]],
    redis: redis_asyncio.Redis,
    redis_url: str,
    namespace: str,
) -> None:
    """A release reaches the first who lives, by message, however far back it stands."""
    async with client(redis_url) as holder:
        held = await holder.lock("n", namespace=namespace, ttl=30.0).acquire()
        doomed = await start(HERD)
        await in_queue(HERD)
        async with waiting(redis_url, namespace, 1, ttl=30.0) as (survivor,):
            await in_queue(HERD + 1)
            doomed.send(signal.SIGKILL)
            await doomed.process.wait()
            await eventually(lambda: connections(redis, HERD), True)
            began = time.monotonic()
            await held.release()
            lease = await survivor
            assert time.monotonic() - began < 0.5
            await lease.release()
    await nothing_left(redis, namespace)


async def connections(redis: redis_asyncio.Redis, fewer_than: int) -> bool:
    """Tell whether the server has seen the end of enough connections."""
    return int((await redis.info("clients"))["connected_clients"]) < fewer_than


async def test_a_frozen_holder_blocks_a_crowd_for_its_ttl_and_a_second(
    in_queue: Callable[[int], Awaitable[None]],
    redis: redis_asyncio.Redis,
    redis_url: str,
    namespace: str,
) -> None:
    """Then the first has it, and all others in turn; the frozen one finds that it lost it."""
    crowd = 60
    async with running("process_main", redis_url, namespace, "hold", str(TTL)) as holder:
        _, held = await holder.said("entered")
        async with waiting(redis_url, namespace, crowd) as tasks:
            await in_queue(crowd)
            order = await in_order(redis, namespace)
            frozen = time.monotonic()
            await holder.stop()
            entered, served, fences = [], [], [int(held)]
            for first in asyncio.as_completed(tasks):
                lease = await first
                entered.append(time.monotonic() - frozen)
                served.append(lease.token)
                fences.append(lease.fencing_token)
                await lease.release()
        # A second of the promise's own, and half a one for a busy machine.
        assert entered[0] < TTL + 1.0 + 0.5
        assert entered[-1] - entered[0] < TTL / 2 + crowd / 100
        assert served == order
        assert fences == sorted(set(fences))
        holder.send(signal.SIGCONT)
        await holder.said("lost")
    await nothing_left(redis, namespace)


async def in_order(redis: redis_asyncio.Redis, namespace: str) -> list[str]:
    """Return the tokens of those who wait."""
    records = await redis.zrange(f"aiodistlock:queue:{{{namespace}n}}", 0, -1)
    return [str(record, "ascii").split(" ")[-1] for record in records if isinstance(record, bytes)]


async def test_a_crowd_asks_rarely(
    in_queue: Callable[[int], Awaitable[None]],
    redis: redis_asyncio.Redis,
    redis_url: str,
    namespace: str,
) -> None:
    """In two seconds behind one holder; if all watched it, it would be three times each."""
    crowd = 150
    async with client(redis_url) as holder:
        held = await holder.lock("n", namespace=namespace, ttl=30.0).acquire()
        async with waiting(redis_url, namespace, crowd, ttl=30.0):
            await in_queue(crowd)
            before = await asked(redis)
            await asyncio.sleep(2.0)  # real time: it is the pauses that are meant
            assert await asked(redis) - before < 2 * crowd
            assert held.is_held


async def asked(redis: redis_asyncio.Redis) -> int:
    """Return how many scripts were run."""
    return int((await redis.info("commandstats"))["cmdstat_evalsha"]["calls"])


async def test_a_grant_that_nobody_hears_costs_a_crowd_its_ttl_and_a_moment(
    in_queue: Callable[[int], Awaitable[None]],
    redis: redis_asyncio.Redis,
    redis_url: str,
    namespace: str,
) -> None:
    """Its message is lost, or it went to a frozen client: all together watch it."""
    async with client(redis_url) as holder:
        held = await holder.lock("n", namespace=namespace, ttl=30.0).acquire()
        async with waiting(redis_url, namespace, 50, ttl=30.0) as tasks:
            await in_queue(50)
            # As release.lua does, but for the message: the first record goes, its token holds.
            queue = f"aiodistlock:queue:{{{namespace}n}}"
            [first] = await redis.zrange(queue, 0, 0)
            assert isinstance(first, bytes)
            await redis.zrem(queue, first)
            await redis.set(f"{namespace}n", first.split()[-1] + b" 1", px=1000)
            began = time.monotonic()
            async with asyncio.timeout(5):
                while not any(task.done() for task in tasks):
                    await asyncio.sleep(0.005)
            assert time.monotonic() - began < 1.0 + 1.0
            assert held.token.encode() != first.split()[-1]


@pytest.mark.parametrize("protocol", [2, 3])
async def test_whose_connection_is_cut_asks_at_once_wherever_it_stands(
    in_queue: Callable[[int], Awaitable[None]],
    redis: redis_asyncio.Redis,
    redis_url: str,
    namespace: str,
    protocol: int,
) -> None:
    """It keeps its place, and a grant that went to the connection it had is asked for."""
    async with client(redis_url) as holder, client(redis_url, protocol=protocol) as last:
        held = await holder.lock("n", namespace=namespace, ttl=30.0).acquire()
        async with waiting(redis_url, namespace, 20, ttl=30.0) as tasks:
            await in_queue(20)
            task = asyncio.create_task(last.lock("n", namespace=namespace, ttl=30.0).acquire())
            await in_queue(21)
            for each in tasks:
                each.cancel()
            await in_queue(1)
            await redis.client_kill_filter(_type="pubsub", skipme=True)
            began = time.monotonic()
            await held.release()
            lease = await task
            assert time.monotonic() - began < 2.0
            await lease.release()
    await nothing_left(redis, namespace)
