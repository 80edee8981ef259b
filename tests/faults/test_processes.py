"""Real client processes: killed, stopped, resumed, contending, forked."""

import asyncio
import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio as redis_asyncio

from aiodistlock import LockClient
from aiodistlock.core.value import read_value
from tests.faults.world import EAGER, PATIENT, client, eventually, nothing_left, waiters

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.bounded(40)


class Client:
    """A client process of its own, and what it says."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def said(self, word: str) -> list[str]:
        """Wait until it says a word; return when, and what else."""
        assert self.process.stdout is not None
        while line := (await self.process.stdout.readline()).decode().split():
            if line[0] == word:
                return line[1:]
        raise AssertionError(f"the process ended without {word!r}")

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    async def stop(self) -> None:
        """Stop it, and wait until the kernel says that it is stopped."""
        self.send(signal.SIGSTOP)
        await self.stopped()

    async def stopped(self) -> None:
        """Wait until the kernel says that it is stopped."""

        async def state() -> str:
            return Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")")[1].split()[0]

        await eventually(state, "T", within=10)


@asynccontextmanager
async def started(url: str, namespace: str, job: str, ttl: float) -> AsyncIterator[Client]:
    """Run a client process that does not outlive the block."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.faults.process_main", url, namespace, job, str(ttl)),
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        yield Client(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


Start = Callable[..., contextlib.AbstractAsyncContextManager[Client]]


@pytest.fixture
def start(redis_url: str, namespace: str) -> Start:
    """Start client processes that do not outlive the test."""

    def run(
        job: str, ttl: float = 2.0, query: str = ""
    ) -> contextlib.AbstractAsyncContextManager[Client]:
        return started(redis_url + query, namespace, job, ttl)

    return run


@pytest.fixture
async def here(redis_url: str) -> AsyncIterator[LockClient]:
    """A client in this process."""
    made = client(redis_url)
    yield made
    await made.aclose()


async def queued(redis: redis_asyncio.Redis, namespace: str, count: int) -> None:
    """Wait until so many processes wait at Redis."""
    await eventually(lambda: waiters(redis, namespace, "n"), count, within=10)


async def test_a_killed_holder_blocks_the_next_waiter_for_its_ttl_and_a_second(
    start: Start, here: LockClient, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """The waiter asks on its own when the ttl must have run out."""
    async with start("hold", ttl=1.5) as holder:
        _, fence = await holder.said("entered")
        waiting = asyncio.create_task(
            here.lock("n", namespace=namespace, backoff=PATIENT).acquire()
        )
        await queued(redis, namespace, 1)
        holder.send(signal.SIGKILL)
        killed = time.monotonic()
        lease = await waiting
        # Its ttl and a second; and another one for a busy machine, since it polls every 20 s.
        assert time.monotonic() - killed < 1.5 + 1.0 + 1.0
        assert lease.fencing_token > int(fence)
        await lease.release()
    await nothing_left(redis, namespace)


async def test_a_killed_waiter_is_skipped_at_the_hand_off(
    start: Start, here: LockClient, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """The one behind it gets the grant at once."""
    lease = await here.lock("n", ttl=20.0, namespace=namespace, local_handoffs=0).acquire()
    async with start("hold", ttl=20.0) as waiter:
        await queued(redis, namespace, 1)
        behind = here.lock("n", ttl=20.0, namespace=namespace, local_handoffs=0, backoff=PATIENT)
        waiting = asyncio.create_task(behind.acquire())
        await queued(redis, namespace, 2)
        waiter.send(signal.SIGKILL)
        await waiter.process.wait()
        # Real time: the server has to see the end of the connection.
        await asyncio.sleep(0.1)
        await lease.release()
        held_by: Any = await redis.get(f"{namespace}n")
        lease = await waiting
        assert lease.token.encode() == read_value(held_by).token
        await lease.release()
    await nothing_left(redis, namespace)


async def test_a_stopped_waiter_costs_one_claim_window_and_does_not_believe_to_hold_later(
    start: Start, here: LockClient, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """It is granted the lock, sleeps over it, and waits its turn again when it goes on."""
    lease = await here.lock("n", ttl=20.0, namespace=namespace, local_handoffs=0).acquire()
    async with start("hold", ttl=20.0) as waiter:
        await queued(redis, namespace, 1)
        behind = here.lock("n", ttl=20.0, namespace=namespace, local_handoffs=0)
        waiting = asyncio.create_task(behind.acquire())
        await queued(redis, namespace, 2)
        await waiter.stop()
        released = time.monotonic()
        await lease.release()
        lease = await waiting
        # The window is 1 s; then up to one fallback poll, of 1 s at most.
        assert 0.9 < time.monotonic() - released < 5.0
        waiter.send(signal.SIGCONT)
        await queued(redis, namespace, 1)  # it waits again
        lease.check()
        left = time.monotonic()
        await lease.release()
        entered, fence = await waiter.said("entered")
        assert float(entered) >= left
        assert int(fence) > lease.fencing_token
        waiter.send(signal.SIGTERM)
        await waiter.said("released")
    await nothing_left(redis, namespace)


@pytest.mark.parametrize("job", ["hold", "freeze"])
async def test_a_holder_stopped_past_its_ttl_is_cancelled_when_it_goes_on(
    start: Start, here: LockClient, redis: redis_asyncio.Redis, namespace: str, job: str
) -> None:
    """Others have moved on with a higher fencing token; it knows so before it writes."""
    async with start(job, ttl=1.5) as holder:
        _, fence = await holder.said("entered")
        if job == "hold":
            await holder.stop()
        else:
            await holder.stopped()
        lock = here.lock("n", ttl=10.0, namespace=namespace, backoff=EAGER)
        lease = await lock.acquire(timeout=10)
        assert lease.fencing_token > int(fence)
        holder.send(signal.SIGCONT)
        if job == "freeze":
            await holder.said("refused")
        await holder.said("lost")
        lease.check()
        await lease.extend(5.0)
        await lease.release()
    await nothing_left(redis, namespace)


async def test_processes_with_many_tasks_take_turns_without_overlap(
    start: Start, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """Each process gets its turn within the span and one critical section."""
    async with start("contend") as one, start("contend") as two:
        told = await asyncio.gather(one.said("done"), two.said("done"))
    for _, served, longest, overlaps, rising in told:
        assert int(served) > 20
        # The span is 50 ms. The bound is generous, and less than the two seconds of the run.
        assert float(longest) < 1.8
        assert int(overlaps) == 0
        assert rising == "True"
    await redis.delete(f"{namespace}inside")
    await nothing_left(redis, namespace)


async def test_in_a_forked_child_lease_and_lock_are_clear_errors(
    start: Start, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """No hang, no second holder; the parent's lease goes on unharmed."""
    async with start("fork") as process:
        for _ in range(3):
            told = await process.said("child")
            assert told[1] == "LockError", told
            assert "parent" in told[2] or "fork" in told[2], told
        await process.said("parent")
    await nothing_left(redis, namespace)
