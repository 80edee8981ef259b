"""Many who wait for one name on a Cluster: the last of them, and all before it dead."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from aiodistlock import AsyncLock, LockClient
from aiodistlock.core.keys import LockKeys
from tests.deployments.cluster import Cluster, Node
from tests.deployments.world import PATIENT, clients, name_on
from tests.faults.world import eventually

pytestmark = pytest.mark.bounded(60)

DEAD = 500
"""How many stand before the one who lives; nobody hears their inboxes."""

TTL = 3.0


class Deep:
    """
    A name, those who are dead in its queue, and one client that lives.

    :param home: the primary of its slot
    """

    def __init__(self, home: Node, namespace: str, name: str, here: LockClient) -> None:
        self.home, self.here = home, here
        self.keys = LockKeys(name, namespace)
        self.lock: AsyncLock = here.lock(name, namespace=namespace, ttl=TTL)

    def command(self, *args: Any) -> Any:
        """Run a command at the slot's primary."""
        return self.home.command(*args)

    def asked(self) -> int:
        """Return how many scripts ran there."""
        lines = self.command("INFO", "commandstats").decode().splitlines()
        stats = dict(line.split(":", 1) for line in lines if ":" in line)
        found = (stats.get(f"cmdstat_{name}", "calls=0,") for name in ("eval", "evalsha"))
        return sum(int(each.split(",")[0].removeprefix("calls=")) for each in found)

    async def in_queue(self) -> None:
        """Wait until the living one stands behind all the others."""

        async def length() -> int:
            return int(self.command("ZCARD", self.keys.queue))

        await eventually(length, DEAD + 1)


@pytest.fixture
async def deep(cluster: Cluster, cluster_namespace: str) -> AsyncIterator[Deep]:
    """A queue of those who were killed at once, as the server knows."""
    if not cluster.sharded:
        pytest.skip("before Redis 7 the waiters on a cluster poll: there is no queue")
    home = cluster.primaries()[0]
    async with clients(cluster, 1) as (here,):
        made = Deep(home, cluster_namespace, name_on(cluster, home, cluster_namespace), here)
        async with made.lock:
            pass  # connected, and its scripts are known
        records = [
            (number, f"1000 aiodistlock:inbox:dead-{number} secret dead:1:00000000:{number}")
            for number in range(1, DEAD + 1)
        ]
        made.command("ZADD", made.keys.queue, *(word for pair in records for word in pair))
        yield made


async def test_a_deep_place_is_served_a_ttl_and_a_second_after_the_holders_death(
    deep: Deep,
) -> None:
    """It asks rarely until then, passes all the dead over, and has the lock."""
    deep.command("SET", deep.keys.key, "dead:1:00000000:0 1", "PX", int(TTL * 1000))
    died = time.monotonic()
    before = deep.asked()
    waiting = asyncio.create_task(deep.lock.acquire())
    await deep.in_queue()
    lease = await waiting
    # A second of the promise's own, and half a one for a busy machine.
    assert time.monotonic() - died < TTL + 1.0 + 0.5
    assert deep.asked() - before <= 6
    assert deep.command("ZCARD", deep.keys.queue) == 0
    await lease.release()


async def test_a_release_reaches_a_deep_place_by_message(cluster: Cluster, deep: Deep) -> None:
    """However many died before it, and though it would not ask for long."""
    name, namespace = deep.keys.name, deep.keys.namespace
    async with clients(cluster, 1) as (there,):
        held = deep.here.lock(name, namespace=namespace, ttl=40.0)
        dead = deep.command("ZRANGE", deep.keys.queue, 0, -1, "WITHSCORES")
        deep.command("DEL", deep.keys.queue)
        lease = await held.acquire()
        deep.command("ZADD", deep.keys.queue, *(word for pair in _pairs(dead) for word in pair))
        patient = there.lock(name, namespace=namespace, ttl=40.0, backoff=PATIENT)
        waiting = asyncio.create_task(patient.acquire())
        await deep.in_queue()
        asked = deep.asked()
        await lease.release()
        after = await waiting
        # The release and the claim: it was told.
        assert deep.asked() - asked <= 2
        assert after.fencing_token > lease.fencing_token
        await after.release()


def _pairs(flat: list[bytes]) -> list[tuple[bytes, bytes]]:
    return list(zip(flat[1::2], flat[::2], strict=True))
