"""``LockClient.health``: how a client fares, wherever the locks are kept."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from aiodistlock import ClientHealth, LeaseLost, LockClient
from tests.contract.world import World
from tests.faults.world import lose


async def test_what_is_not_used_yet_is_told_so(first: LockClient) -> None:
    """Nothing is opened to answer."""
    assert first.health() == ClientHealth(
        connected=False, silent_for=None, watchdog_lag=0.0, held=0, waiting=0, lost=0
    )


async def test_what_is_held_waited_for_and_lost_is_counted(world: World, first: LockClient) -> None:
    """By tasks of this client, at this instant; losses for a minute."""
    lock = world.lock(first)
    lease = await lock.acquire()
    waiting = asyncio.create_task(lock.acquire())
    while (health := first.health()).waiting < 1:
        await asyncio.sleep(0)
    assert health.connected
    assert health.silent_for is not None
    assert 0.0 <= health.silent_for < 5.0
    assert (health.held, health.lost) == (1, 0)
    await lease.release()
    lose(await waiting)
    with pytest.raises(LeaseLost):
        await waiting.result().release()
    assert (first.health().held, first.health().waiting, first.health().lost) == (0, 0, 1)


async def test_another_thread_sees_that_the_loop_hangs(world: World, first: LockClient) -> None:
    """As an endpoint has to that says whether the process is alive."""
    async with world.lock(first, ttl=2.0):
        with ThreadPoolExecutor(1) as thread:
            asked = thread.submit(_after, 0.9, first)
            time.sleep(1.0)  # the loop is to hang
            health = asked.result()
    assert 0.4 < health.watchdog_lag < 10.0
    while first.health().watchdog_lag > 0.0:
        await asyncio.sleep(0.001)


def _after(seconds: float, client: LockClient) -> ClientHealth:
    time.sleep(seconds)
    return client.health()


async def test_a_closed_client_is_not_connected(world: World) -> None:
    """Nor does it hold or wait."""
    client = world.open()
    async with client, world.lock(client):
        pass
    assert not client.health().connected
    assert client.health().silent_for is None
