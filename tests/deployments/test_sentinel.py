"""Locks behind Sentinel: failovers while a lock is held and waited for."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

import pytest

from aiodistlock import LeaseLost, LockClient
from aiodistlock.testing.embedded import EmbeddedRedis
from tests.deployments.sentinel import SentinelDeployment

WITHIN = 2.0
"""Seconds that the next grant may come after a sentinel has named the new master (P3)."""

pytestmark = pytest.mark.bounded(45)


async def _fail_over(deployment: SentinelDeployment, how: str) -> tuple[EmbeddedRedis, float]:
    """Kill or freeze the master; return it, and when the sentinels had another one."""
    former = deployment.master
    getattr(former, how)()
    return former, await deployment.failed_over(former)


async def _turns(client: LockClient, stop: asyncio.Event, grants: list[tuple[float, int]]) -> None:
    """Hold the lock again and again, and note when and with which fencing token."""
    lock = client.lock("wallet:42", ttl=2.0, local_handoffs=0)
    while not stop.is_set():
        # Writes that the new master never saw are lost with the old one (P2).
        with contextlib.suppress(LeaseLost):
            async with lock.hold() as lease:
                grants.append((time.monotonic(), lease.fencing_token))
                await asyncio.sleep(0.005)  # a critical section


async def _with_turns(
    deployment: SentinelDeployment,
    protocol: int,
    fault: Callable[[], Awaitable[float]],
) -> tuple[float, list[tuple[float, int]]]:
    """Let two processes take turns through a fault; return its end, and the grants."""
    grants: list[tuple[float, int]] = []
    stop = asyncio.Event()
    async with (
        deployment.locks(protocol=protocol) as one,
        deployment.locks(protocol=protocol) as two,
    ):
        turns = [asyncio.create_task(_turns(each, stop, grants)) for each in (one, two)]
        while len(grants) < 10:
            await asyncio.sleep(0.01)  # both are under way
        over_at = await fault()
        until = time.monotonic() + 10
        while len([at for at, _ in grants if at > over_at]) < 10:
            assert time.monotonic() < until, "no grants after the failover"
            await asyncio.sleep(0.01)
        stop.set()
        async with asyncio.timeout(5):
            await asyncio.gather(*turns)
    return over_at, grants


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("how", ["kill", "freeze"])
async def test_waiters_go_on_at_the_new_master(
    sentinels: SentinelDeployment, how: str, protocol: int
) -> None:
    """After a failover the next grant comes within 2 s; fencing tokens go on rising."""

    async def fault() -> float:
        return (await _fail_over(sentinels, how))[1]

    over_at, grants = await _with_turns(sentinels, protocol, fault)
    first = min(at for at, _ in grants if at > over_at)
    assert first - over_at < WITHIN
    fences = [fence for _, fence in grants]
    assert fences == sorted(set(fences))
