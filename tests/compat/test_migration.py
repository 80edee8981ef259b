"""Old processes with redis-py's lock and new ones with ours, on one name, for real."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis

from aiodistlock.compat.token_lock import CLAIM_WITHIN
from tests.faults.world import eventually

ROOT = Path(__file__).parents[2]
BOTH_WAYS = pytest.mark.parametrize(("first", "second"), [("old", "new"), ("new", "old")])


class Service:
    """A process of the service, and what it says."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def said(self, word: str) -> list[str]:
        """Wait until it says a word; return when, and what else."""
        assert self.process.stdout is not None
        while line := (await self.process.stdout.readline()).decode().split():
            if line[0] == word:
                return line[1:]
        raise AssertionError(f"the process ended without {word!r}")

    def tell(self) -> None:
        """Have it release the lock."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")

    def kill(self) -> None:
        """Kill it."""
        self.process.send_signal(signal.SIGKILL)


Start = Callable[..., AbstractAsyncContextManager[Service]]


@pytest.fixture
def start(redis_url: str, name: str) -> Start:
    """Start processes that do not outlive the test."""

    @asynccontextmanager
    async def run(
        lock_class: str, job: str = "hold", timeout: float | None = 20.0
    ) -> AsyncIterator[Service]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.compat.migration_main",
            redis_url, name, lock_class, job, str(timeout),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT,
        )  # fmt: skip
        try:
            yield Service(process)
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    return run


async def enter(service: Service) -> float:
    """Have a process take the lock; return when it had it."""
    await service.said("ready")
    service.tell()
    (entered,) = await service.said("entered")
    return float(entered)


async def wait(service: Service) -> None:
    """Have a process wait for the lock."""
    await service.said("ready")
    service.tell()
    await service.said("waiting")


@pytest.mark.parametrize("timeout", [20.0, None])
async def test_old_and_new_processes_exclude_each_other_under_contention(
    start: Start, redis: Redis, name: str, timeout: float | None
) -> None:
    """Two of each, two tasks in each: nobody is ever inside with another, all are served."""
    async with AsyncExitStack() as stack:
        services = [
            await stack.enter_async_context(start(lock_class, "contend", timeout))
            for lock_class in ("old", "new", "old", "new")
        ]
        for each in services:
            await each.said("ready")
        for each in services:
            each.tell()
        told = [await each.said("done") for each in services]
    await redis.delete(f"{name}:inside")
    assert [(int(served), int(overlaps)) for _, served, overlaps, _ in told] == [(50, 0)] * 4
    # All were at it together: each had begun before any of the others was done.
    assert max(float(began) for *_, began in told) < min(float(done) for done, *_ in told)


@BOTH_WAYS
@pytest.mark.parametrize("timeout", [20.0, None])
async def test_one_waits_until_the_other_releases(
    start: Start, first: str, second: str, timeout: float | None
) -> None:
    """In both directions, with and without a ttl."""
    async with start(first, timeout=timeout) as holder, start(second, timeout=timeout) as waiter:
        await enter(holder)
        await wait(waiter)
        asked = time.monotonic()
        holder.tell()
        await holder.said("released")
        (entered,) = await waiter.said("entered")
        assert asked <= float(entered) < asked + 5.0
        waiter.tell()
        await waiter.said("released")


@BOTH_WAYS
async def test_a_killed_holder_blocks_the_other_until_its_timeout(
    start: Start, first: str, second: str
) -> None:
    """SIGKILL: nobody enters before the end of the ttl, and somebody soon after it."""
    async with start(first, timeout=1.0) as holder, start(second) as waiter:
        since = await enter(holder)
        await wait(waiter)
        holder.kill()
        (entered,) = await waiter.said("entered")
        # The ttl began a round trip before it said so.
        assert 0.9 < float(entered) - since < 1.0 + 3.0
        waiter.tell()
        await waiter.said("released")


@pytest.mark.parametrize(
    "roles", [("new", "new", "old"), ("new", "old", "new"), ("old", "new", "new")], ids=str
)
async def test_a_killed_waiter_blocks_nobody(
    start: Start, redis: Redis, name: str, roles: tuple[str, str, str]
) -> None:
    """Its place in the queue is passed over, and no old one minds."""
    holds, dies, waits = roles
    async with start(holds) as holder, start(dies) as victim, start(waits) as waiter:
        await enter(holder)
        await wait(victim)
        if dies == "new":
            await eventually(lambda: redis.zcard(f"aiodistlock:queue:{{{name}}}"), 1)
        await wait(waiter)
        victim.kill()
        await victim.process.wait()
        await asyncio.sleep(0.1)  # real time: the server has to see the end of the connection
        asked = time.monotonic()
        holder.tell()
        (entered,) = await waiter.said("entered")
        assert float(entered) - asked < 1.5
        waiter.tell()
        await waiter.said("released")
        await holder.said("released")


async def test_a_frozen_waiter_holds_a_lock_without_timeout_for_no_longer_than_a_claim(
    start: Start, redis: Redis, name: str
) -> None:
    """It is granted what it cannot claim; when it goes on, it waits again."""
    async with (
        start("new", timeout=None) as holder,
        start("new", timeout=None) as frozen,
        start("old", timeout=None) as waiter,
    ):
        await enter(holder)
        await wait(frozen)
        await eventually(lambda: redis.zcard(f"aiodistlock:queue:{{{name}}}"), 1)
        await wait(waiter)
        frozen.process.send_signal(signal.SIGSTOP)
        asked = time.monotonic()
        holder.tell()
        (entered,) = await waiter.said("entered")
        assert float(entered) - asked < CLAIM_WITHIN + 3.0
        frozen.process.send_signal(signal.SIGCONT)
        await eventually(lambda: redis.zcard(f"aiodistlock:queue:{{{name}}}"), 1)
        told = time.monotonic()
        waiter.tell()
        await waiter.said("released")
        (entered,) = await frozen.said("entered")
        assert float(entered) >= told
        assert await redis.pttl(name) == -1
        frozen.tell()
        await frozen.said("released")
        await holder.said("released")
