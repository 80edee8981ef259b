"""What a process of a service in migration does, with redis-py's lock or with ours.

    python -m tests.compat.migration_main URL NAME CLASS JOB [TIMEOUT]

Tells what happens by lines on stdout: a word, ``time.monotonic()`` (one clock for all
processes of a machine), and what else there is to tell.
"""

import asyncio
import sys
import time

import redis.asyncio as redis_asyncio
from redis.asyncio import Redis
from redis.asyncio.lock import Lock

from aiodistlock.compat import RedisPyLock

CLASSES = {"old": Lock, "new": RedisPyLock}
RUN = 1.0
"""Seconds for which a process contends."""


def say(word: str, *more: object) -> None:
    """Tell something to the test."""
    sys.stdout.write(" ".join(map(str, (word, time.monotonic(), *more))) + "\n")
    sys.stdout.flush()


async def hold(lock: Lock) -> None:
    """Acquire when a line comes on stdin; hold until killed, or until the next line."""
    say("ready")
    await asyncio.to_thread(sys.stdin.readline)
    say("waiting")
    assert await lock.acquire()
    say("entered")
    await asyncio.to_thread(sys.stdin.readline)
    assert await lock.owned()
    await lock.release()
    say("released")


async def contend(redis: Redis, name: str, lock_class: type[Lock], timeout: float | None) -> None:
    """Contend by some tasks; check by a counter that nobody is inside meanwhile."""
    until = time.monotonic() + RUN
    served = overlaps = 0

    async def task() -> None:
        nonlocal served, overlaps
        while (left := until - time.monotonic()) > 0:
            # Short pauses: a poller must now and then find the lock free.
            lock = redis.lock(name, timeout, 0.005, lock_class=lock_class)
            if await lock.acquire(blocking_timeout=left):
                overlaps += await redis.incr(f"{name}:inside") != 1
                await redis.decr(f"{name}:inside")
                served += 1
                await lock.release()
            await asyncio.sleep(0.002)

    await asyncio.gather(*(task() for _ in range(3)))
    say("done", served, overlaps)


async def main(url: str, name: str, lock_class: str, job: str, timeout: str) -> None:
    """Do a job."""
    seconds = None if timeout == "None" else float(timeout)
    async with redis_asyncio.from_url(url) as redis:
        if job == "hold":
            await hold(redis.lock(name, seconds, 0.02, lock_class=CLASSES[lock_class]))
        else:
            await contend(redis, name, CLASSES[lock_class], seconds)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
