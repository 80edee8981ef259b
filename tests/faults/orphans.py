"""Counts what acquires leave in Redis that are cancelled at random points.

    python -m tests.faults.orphans [redis://...] [acquires]

Prints the figure of the release note; without a URL it starts a server of its own.
"""

import asyncio
import random
import sys
import time
import uuid
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass

import redis.asyncio as redis_asyncio

from aiodistlock import AcquireTimeout, Lease, LockClient
from aiodistlock.testing.embedded import EmbeddedRedis
from tests.faults.world import EAGER, client, left

NAMES = 6
AT_ONCE = 40
TTL = 60.0
"""Longer than the run: no orphan is forgiven by its expiry."""


@dataclass
class Figures:
    """What became of the acquires, and what they left."""

    outcomes: Counter[str]
    seconds: float
    orphans: list[bytes]

    def __str__(self) -> str:
        told = ", ".join(f"{count} {what}" for what, count in sorted(self.outcomes.items()))
        total = sum(self.outcomes.values())
        return f"{total} acquires in {self.seconds:.1f} s ({told}): {len(self.orphans)} orphans"

    @property
    def ended_early(self) -> int:
        """How many were cancelled or timed out, by then granted or not."""
        return self.outcomes.total() - self.outcomes["granted and released"]


async def one(source: LockClient, name: str, namespace: str, rng: random.Random) -> str:
    """Acquire a lock, be cancelled or time out at some point, or hold for a moment."""
    lock = source.lock(name, ttl=TTL, namespace=namespace, backoff=EAGER)
    short, moment = rng.random() * 0.02, rng.random() * 0.002
    if rng.random() < 0.4:
        try:
            lease = await lock.acquire(timeout=short)
        except AcquireTimeout:
            return "timed out"
    else:
        task = asyncio.create_task(lock.acquire())
        for _ in range(rng.randrange(30)):
            await asyncio.sleep(0)
        # Real time: the answer comes from a real server at no chosen instant.
        await asyncio.sleep(rng.choice([0.0, short]))
        if not task.done():
            task.cancel()
        try:
            lease = await task
        except asyncio.CancelledError:
            return "cancelled"
    releasing = asyncio.create_task(_hold(lease, moment))
    if rng.random() < 0.3:
        await asyncio.sleep(moment * 1.5)
        releasing.cancel()
    with suppress(asyncio.CancelledError):
        await releasing
        return "granted and released"
    if not lease._released:
        await lease.release()
    return "granted, cancelled later"


async def _hold(lease: Lease, moment: float) -> None:
    await asyncio.sleep(moment)
    lease.check()
    await lease.release()


async def measure(url: str, acquires: int = 2000, seed: int = 0) -> Figures:
    """End so many acquires early, on a few names by two clients; count what is left."""
    rng = random.Random(seed)
    namespace = f"t:{uuid.uuid4().hex[:12]}:"
    figures = Figures(Counter(), 0.0, [])
    began = time.monotonic()
    sources = [client(url, protocol=protocol) for protocol in (2, 3)]

    async def worker() -> None:
        while figures.ended_early < acquires:
            name = f"n{rng.randrange(NAMES)}"
            figures.outcomes[await one(rng.choice(sources), name, namespace, rng)] += 1

    async with redis_asyncio.from_url(url) as redis:
        try:
            await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
            figures.seconds = time.monotonic() - began
            # Timed-out acquires do not wait for their clean-up: it has five seconds.
            until = time.monotonic() + 5
            while (orphans := await left(redis, namespace)) and time.monotonic() < until:
                await asyncio.sleep(0.01)
        finally:
            for source in sources:
                await source.aclose()
        fences = [key async for key in redis.scan_iter(match=f"*{namespace}*", count=1000)]
        if fences:
            await redis.delete(*fences)
    figures.orphans = orphans
    return figures


def main() -> None:
    """Measure, and print the figure."""
    with ExitStack() as stack:
        url = sys.argv[1] if len(sys.argv) > 1 else stack.enter_context(EmbeddedRedis()).url
        acquires = int(sys.argv[2]) if len(sys.argv) > 2 else 2000
        figures = asyncio.run(measure(url, acquires, seed=random.randrange(1 << 30)))
    sys.stdout.write(f"{figures}\n")
    sys.exit(bool(figures.orphans))


if __name__ == "__main__":
    main()
