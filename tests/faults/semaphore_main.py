"""A process whose tasks hold permits, and say when.

    python -m tests.faults.semaphore_main URL NAMESPACE LIMIT TTL SECONDS

Tells by lines on stdout: "holds", ``time.monotonic()`` (one clock for all processes of a machine),
the slots and the fencing token.  The instant is read before the lease is asked whether it is valid
still, so who was stopped in between claims nothing that is over.
"""

import asyncio
import random
import sys
import time

from aiodistlock import LeaseLost, LockClient, Semaphore, SemaphoreLease
from tests.faults.world import EAGER

TASKS = 4


def claim(lease: SemaphoreLease) -> None:
    """Say that the lease is held, if it is."""
    now = time.monotonic()
    if lease.is_held:
        slots = ",".join(map(str, lease.slots))
        sys.stdout.write(f"holds {now:.6f} {slots} {lease.fencing_token}\n")
        sys.stdout.flush()


async def hold(semaphore: Semaphore, seconds: float) -> None:
    """Hold one permit or two for a moment, again and again."""
    while True:
        permits = random.randint(1, min(2, semaphore.limit))
        try:
            async with semaphore.hold(permits=permits) as lease:
                until = time.monotonic() + seconds
                claim(lease)
                while time.monotonic() < until:
                    await asyncio.sleep(seconds / 4)
                    claim(lease)
        except LeaseLost:
            continue


async def main(url: str, namespace: str, limit: str, ttl: str, seconds: str) -> None:
    """Hold permits by several tasks until killed."""
    async with LockClient.from_url(url) as locks, asyncio.TaskGroup() as group:
        semaphore = locks.semaphore(
            "gpu", int(limit), ttl=float(ttl), namespace=namespace, backoff=EAGER
        )
        for _ in range(TASKS):
            group.create_task(hold(semaphore, float(seconds)))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
