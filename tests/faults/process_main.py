"""What a client process of the tests does.

    python -m tests.faults.process_main URL[,URL...] NAMESPACE JOB [TTL]

Tells what happens by lines on stdout: a word, ``time.monotonic()`` (one clock for all
processes of a machine), and what else there is to tell.
"""

import asyncio
import os
import re
import signal
import sys
import time
from itertools import pairwise

import redis.asyncio as redis_asyncio

from aiodistlock import AsyncLock, LeaseLost, LockClient, LockError
from tests.faults.world import PATIENT


def say(word: str, *more: object) -> None:
    """Tell something to the test."""
    sys.stdout.write(" ".join(map(str, (word, time.monotonic(), *more))) + "\n")
    sys.stdout.flush()


async def hold(lock: AsyncLock) -> None:
    """Wait for the lock and hold it until killed, cancelled by a loss, or told by SIGTERM."""
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    try:
        async with lock as lease:
            say("entered", lease.fencing_token)
            try:
                await told.wait()
            finally:
                say("leaving", lease.fencing_token, f"{lease.validity:.3f}")
    except LeaseLost:
        say("lost")
    else:
        say("released")


async def linger(client: LockClient, namespace: str, ttl: float) -> None:
    """Hold a lock for a moment, and have its lease linger for as long as it can."""
    lock = client.lock("n", ttl=ttl, namespace=namespace, linger=60.0)
    while client.linger_counts.hits == 0:  # the second connection of RESP2 has to be there
        async with lock as lease:
            fence = lease.fencing_token
    say("released", fence)
    await asyncio.Event().wait()


async def freeze_in_body(lock: AsyncLock) -> None:
    """Hold the lock, stop oneself, and write whatever the lease says when it goes on."""
    try:
        async with lock as lease:
            say("entered", lease.fencing_token)
            os.kill(os.getpid(), signal.SIGSTOP)
            try:
                lease.check()
            except LeaseLost:
                say("refused", lease.fencing_token)
            else:
                say("believes", lease.fencing_token)
            for _ in range(1000):
                await asyncio.sleep(0)
            say("ran on")
    except LeaseLost:
        say("lost")


async def contend(client: LockClient, lock: AsyncLock, url: str, namespace: str) -> None:
    """Contend by many tasks for two seconds; check by a counter that nobody overlaps."""
    until = time.monotonic() + 2.0
    served: list[tuple[float, int, bool]] = []
    inside = f"{namespace}inside"
    async with redis_asyncio.from_url(url) as redis:

        async def task() -> None:
            while time.monotonic() < until:
                async with lock as lease:
                    entered = time.monotonic()
                    alone = await redis.incr(inside) == 1
                    await redis.decr(inside)
                    served.append((entered, lease.fencing_token, alone))

        await asyncio.gather(*(task() for _ in range(20)))
    times = [entered for entered, _, _ in served]
    waits = [later - sooner for sooner, later in pairwise(times)]
    fences = [fence for _, fence, _ in served]
    overlaps = sum(not alone for _, _, alone in served)
    say("done", len(served), max(waits), overlaps, fences == sorted(set(fences)))


async def fork(client: LockClient, lock: AsyncLock) -> None:
    """Fork while holding; the child's use of lease and lock must be a clear error."""
    async with lock as lease:
        if os.fork() == 0:
            for use in (lease.check, client.lock("other").try_acquire, lease.release):
                try:
                    coroutine = use()
                    # One step: the event loop is the parent's.
                    if coroutine is not None:
                        coroutine.send(None)
                    say("child", "no-error")
                except LockError as error:
                    say("child", type(error).__name__, str(error).replace(" ", "_"))
                except BaseException as error:  # noqa: BLE001 - the test is told
                    say("child", type(error).__name__, "unclear")
            os._exit(0)
        os.wait()  # noqa: ASYNC222 - the child ends without us
        await asyncio.sleep(0.1)  # real time: what the child broke would show
        lease.check()
        await lease.extend(5.0)
    say("parent", "fine")


async def main(url: str, namespace: str, job: str, ttl: str = "2.0") -> None:
    """Do a job."""
    first, *others = re.split(",(?=redis)", url)  # of one, Sentinels stand behind commas, too
    async with LockClient.from_url([first, *others] if others else first) as client:
        lock = client.lock("n", namespace=namespace, ttl=float(ttl), backoff=PATIENT)
        say("ready")
        if job == "hold":
            await hold(lock)
        elif job == "freeze":
            await freeze_in_body(lock)
        elif job == "contend":
            await contend(client, client.lock("n", namespace=namespace, ttl=5.0), first, namespace)
        elif job == "linger":
            await linger(client, namespace, float(ttl))
        elif job == "fork":
            await fork(client, lock)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
