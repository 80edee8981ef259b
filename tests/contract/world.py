"""What the contract tests share: a place for locks, and ways to hold one."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from aiodistlock import AsyncLock, Backoff, Lease, LockClient, StoreUnavailable

HOUR = 3600.0

NEVER = Backoff(initial=60.0, cap=60.0)
"""Of a waiter that does not poll for as long as a test lasts."""

ORDERED = ("memory", "resp3", "resp2", "fakeredis", "cluster")
"""Worlds that serve processes in order; a quorum has no queue across its nodes."""

STYLES = ("async with lock", "lock.hold()", "acquire and release")
"""Ways to hold a lock; for :func:`held`."""


@dataclass(frozen=True)
class World:
    """One place where locks are kept, and how a process reaches it."""

    namespace: str
    open: Callable[[], LockClient]

    def lock(self, client: LockClient, name: str = "wallet", **options: Any) -> AsyncLock:
        """Make a lock in the test's own namespace."""
        return client.lock(name, namespace=self.namespace, **options)


@dataclass
class Room:
    """Notices when two are inside at once, and counts as a careless program would."""

    inside: int = 0
    visits: int = 0
    fences: list[int] = field(default_factory=list)

    async def visit(self, lease: Lease) -> None:
        """Read, let others run, write."""
        assert self.inside == 0, "somebody else is inside"
        self.inside += 1
        visits = self.visits
        self.fences.append(lease.fencing_token)
        for _ in range(3):
            await asyncio.sleep(0)
        self.visits = visits + 1
        self.inside -= 1


@asynccontextmanager
async def held(lock: AsyncLock, style: str, **options: Any) -> AsyncIterator[Lease]:
    """Hold a lock in one of the three ways."""
    if style == "async with lock":
        async with lock as lease:
            yield lease
    elif style == "lock.hold()":
        async with lock.hold(**options) as lease:
            yield lease
    else:
        lease = await lock.acquire(**options)
        try:
            yield lease
        finally:
            await lease.release()


async def turns(count: int = 5) -> None:
    """Let the other tasks of this loop run on; no time passes."""
    for _ in range(count):
        await asyncio.sleep(0)


async def queued(lock: AsyncLock, count: int) -> None:
    """Wait until so many waiters are in the queue; each look is a round trip."""
    while len((await lock.inspect()).waiters) != count:
        await asyncio.sleep(0)


async def free(lock: AsyncLock) -> None:
    """Wait until nobody holds the lock or waits; each look is a round trip."""
    while True:
        # On a busy machine the nodes of a quorum may be silent for a while.
        with suppress(StoreUnavailable):
            info = await lock.inspect()
            if info.holder is None and not info.waiters:
                return
        await asyncio.sleep(0)
