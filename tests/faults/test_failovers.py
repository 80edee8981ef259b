"""Leaders that are killed and stopped: terms rise, and a fenced store takes nothing stale.

``python -m tests.faults.test_failovers [COUNT]`` has it happen more often, and tells how long
succession took.
"""

import asyncio
import contextlib
import signal
import statistics
import sys
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Self

import pytest
import redis.asyncio as redis_asyncio

from aiodistlock import Leader, LockClient
from aiodistlock.testing.embedded import EmbeddedRedis
from tests.faults.fenced_store import counts

ROOT = Path(__file__).parents[2]

CANDIDATES = 3


class Candidates:
    """Processes that stand for election; they do not outlive the block."""

    def __init__(self, url: str, namespace: str, ttl: float) -> None:
        self._args = (sys.executable, "-m", "tests.faults.candidate_main", url, namespace, str(ttl))
        self._running: dict[str, asyncio.subprocess.Process] = {}

    async def start(self) -> None:
        """Start another one."""
        process = await asyncio.create_subprocess_exec(*self._args, cwd=ROOT)
        self._running[str(process.pid)] = process

    def send(self, pid: str, number: signal.Signals) -> None:
        """Send one a signal."""
        self._running[pid].send_signal(number)

    async def bury(self, pid: str) -> None:
        """Wait for the end of one that was killed."""
        await self._running.pop(pid).wait()

    async def __aenter__(self) -> Self:
        for _ in range(CANDIDATES):
            await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for process in self._running.values():
            process.kill()
            await process.wait()


async def another(
    leaders: AsyncGenerator[Leader | None, None], than: str | None, terms: list[int]
) -> str:
    """Observe until another process leads, and note each term on the way."""
    async with asyncio.timeout(60):
        async for leader in leaders:
            if leader is None:
                continue
            if not terms or leader.term != terms[-1]:
                terms.append(leader.term)
            if leader.value is not None and leader.value != than:
                return leader.value
    raise AssertionError("it ended")


async def failovers(
    url: str, namespace: str, count: int, ttl: float
) -> tuple[list[int], dict[str, list[float]]]:
    """
    Have so many leaders killed or stopped, by turns.

    Returns the terms that were observed, in order, and by signal how long each succession took.
    """
    terms: list[int] = []
    took: dict[str, list[float]] = {"SIGKILL": [], "SIGSTOP": []}
    async with (
        Candidates(url, namespace, ttl) as candidates,
        LockClient.from_url(url) as locks,
        contextlib.aclosing(locks.election("e", ttl=ttl, namespace=namespace).observe()) as leaders,
    ):
        pid = await another(leaders, None, terms)
        lock = locks.lock("e", namespace=namespace)
        for number in range(count):
            async with asyncio.timeout(60):
                while len((await lock.inspect()).waiters) < CANDIDATES - 1:
                    await asyncio.sleep(0.02)
            kills = number % 2 == 0
            sent = signal.SIGKILL if kills else signal.SIGSTOP
            began = time.monotonic()
            candidates.send(pid, sent)
            former, pid = pid, await another(leaders, pid, terms)
            took[sent.name].append(time.monotonic() - began)
            if kills:
                await candidates.bury(former)
                await candidates.start()
            else:
                candidates.send(former, signal.SIGCONT)
    return terms, took


@pytest.mark.bounded(150)
async def test_terms_rise_over_kills_and_stops_and_nothing_stale_is_taken(
    embedded_redis: EmbeddedRedis,
) -> None:
    """Whoever goes on as if it still led is refused; no term has two leaders."""
    terms, _ = await failovers(embedded_redis.url, "t:", 8, ttl=1.5)
    assert len(terms) > 8
    assert terms == sorted(set(terms))
    async with redis_asyncio.from_url(embedded_redis.url) as redis:
        counted = await counts(redis, "t:")
        assert "shared" not in counted
        assert counted["terms"] > 1


async def _tell(count: int) -> None:
    with EmbeddedRedis() as server:
        ttl = 1.5
        terms, took = await failovers(server.url, "t:", count, ttl)
        async with redis_asyncio.from_url(server.url) as redis:
            counted = await counts(redis, "t:")
    assert terms == sorted(set(terms))
    assert "shared" not in counted
    told = [f"{len(terms)} terms observed, all rising; ttl {ttl} s; the store: {counted}"]
    for name, each in took.items():
        p50 = statistics.median(each)
        told.append(f"{name}: {len(each)}, p50 {p50:.2f} s, max {max(each):.2f} s")
    sys.stdout.write("\n".join([*told, ""]))


if __name__ == "__main__":
    asyncio.run(_tell(int(sys.argv[1]) if sys.argv[1:] else 100))
