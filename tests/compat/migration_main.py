"""What a process of a service in migration does, with redis-py's lock or with ours.

    python -m tests.compat.migration_main URL NAME CLASS JOB [TIMEOUT]

Tells what happens by lines on stdout: a word, ``time.monotonic()`` (one clock for all
processes of a machine), and what else there is to tell.
"""

import asyncio
import random
import sys
import time

import redis.asyncio as redis_asyncio
from redis.asyncio import Redis
from redis.asyncio.lock import Lock

from aiodistlock.compat import RedisPyLock

CLASSES = {"old": Lock, "new": RedisPyLock}
TURNS = 25
"""How often each task of a contending process is served."""


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
    """When a line comes on stdin, contend by some tasks; count who else was inside, too."""
    say("ready")
    await asyncio.to_thread(sys.stdin.readline)
    began = time.monotonic()
    served = overlaps = 0

    async def task() -> None:
        nonlocal served, overlaps
        for _ in range(TURNS):
            async with redis.lock(name, timeout, 0.005, lock_class=lock_class):
                overlaps += await redis.incr(f"{name}:inside") != 1
                served += 1
                await redis.decr(f"{name}:inside")
            # Now and then nobody must be there, or who polls is never served.
            await asyncio.sleep(random.uniform(0.0, 0.02))

    await asyncio.gather(task(), task())
    say("done", served, overlaps, began)


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
