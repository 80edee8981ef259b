"""What the tests of deployments share: names by node, and waiting for a queue."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiodistlock import AsyncLock, Backoff, Lease, LockClient
from tests.deployments.cluster import Cluster, Node

PATIENT = Backoff(initial=20.0, factor=1.0, cap=20.0, jitter=0.0)
"""Of a waiter that does not poll: only a grant, or a change of the cluster, wakes it."""


EAGER = Backoff(initial=0.02, factor=1.5, cap=0.1)
"""Of a waiter that makes up quickly for what it was not told."""


def name_on(cluster: Cluster, node: Node, namespace: str) -> str:
    """Find a name whose key a node serves."""
    for number in range(1_000):
        name = f"wallet:{number}"
        if cluster.owner(namespace + name) is node:
            return name
    raise AssertionError("it serves no slot: it is no primary (any more)")


async def queued(cluster: Cluster, lock: AsyncLock, count: int = 1) -> None:
    """Wait until so many wait at Redis; where they only poll, until they have asked."""
    if not cluster.sharded:
        # Real time: nothing tells that somebody polls.
        await asyncio.sleep(0.1)
        return
    while len((await lock.inspect()).waiters) != count:
        await asyncio.sleep(0.002)


async def granted(lock: AsyncLock) -> tuple[float, Lease]:
    """Acquire; return when that was, too."""
    lease = await lock.acquire()
    return time.monotonic(), lease


@asynccontextmanager
async def clients(
    cluster: Cluster, count: int = 2, **options: Any
) -> AsyncIterator[list[LockClient]]:
    """Clients of a cluster: to Redis, processes of their own."""
    made = [LockClient.from_url(cluster.url, **options) for _ in range(count)]
    try:
        yield made
    finally:
        for each in made:
            await each.aclose()
