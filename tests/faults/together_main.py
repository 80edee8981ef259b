"""A process whose tasks take random subsets of five names.

    python -m tests.faults.together_main URL NAMESPACE ROUNDS [SECONDS]

Each task holds so many subsets, or as many as it can in so many seconds, and checks by counters
that nobody else is inside.  Then it tells, in one line: how many were held by all tasks, and by
the one that held the fewest; the longest wait, in seconds; how often somebody else was inside.
"""

import asyncio
import random
import sys
import time

import redis.asyncio as redis_asyncio

from aiodistlock import LockClient

NAMES = ("a", "b", "c", "d", "e")
TASKS = 3


async def main(url: str, namespace: str, rounds: int, seconds: float) -> None:
    """Hold subsets by several tasks, and tell."""
    until = time.monotonic() + seconds
    held, overlaps, longest = [0] * TASKS, 0, 0.0
    async with LockClient.from_url(url) as locks, redis_asyncio.from_url(url) as redis:

        async def work(task: int) -> None:
            nonlocal overlaps, longest
            while held[task] < rounds or time.monotonic() < until:
                names = random.sample(NAMES, random.randint(1, len(NAMES)))
                asked = time.monotonic()
                async with locks.together(*names, namespace=namespace) as leases:
                    longest = max(longest, time.monotonic() - asked)
                    for lease in leases:
                        overlaps += await redis.incr(f"{namespace}inside:{lease.name}") != 1
                    for lease in leases:
                        await redis.decr(f"{namespace}inside:{lease.name}")
                held[task] += 1

        await asyncio.gather(*map(work, range(TASKS)))
    sys.stdout.write(f"{sum(held)} {min(held)} {longest:.3f} {overlaps}\n")


if __name__ == "__main__":
    url, namespace, rounds, *seconds = sys.argv[1:]
    asyncio.run(main(url, namespace, int(rounds), float(*seconds)))
