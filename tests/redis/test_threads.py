"""Event loops of several threads, with one client object between them."""

import asyncio
import gc
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis.asyncio import Redis

from aiodistlock import AsyncLock, LockClient, add_listener, remove_listener
from aiodistlock.compat import RedisPyLock
from aiodistlock.engines import shared_engines
from aiodistlock.events.events import LockEvent

THREADS = 8
LOOPS = 12
"""In each thread, one after the other."""


@pytest.fixture(autouse=True)
def _hurried() -> Iterator[None]:
    """Have threads take turns as often as they can: a race shows in seconds."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def in_threads(work: Callable[[int], None], threads: int = THREADS) -> None:
    """Run ``work`` in threads that begin together; raise what one raised."""
    together = threading.Barrier(threads)

    def run(number: int) -> None:
        together.wait(10)
        work(number)

    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(run, number) for number in range(threads)]:
            done.result()


class Exclusive:
    """A body that notices another one beside it."""

    def __init__(self) -> None:
        self.inside = 0
        self.times = 0

    async def __call__(self) -> None:
        """Be alone."""
        self.inside += 1
        assert self.inside == 1
        await asyncio.sleep(0)
        self.inside -= 1
        self.times += 1


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("shares", ["lock", "client"])
def test_loops_of_eight_threads_use_one_client_object(
    redis_url: str, namespace: str, shares: str, protocol: int
) -> None:
    """Loops come and go in all threads at once; each has the lock in turn, and none fails."""
    redis = Redis.from_url(redis_url, protocol=protocol)
    one = AsyncLock(redis, "all", namespace=namespace)
    body = Exclusive()

    async def use(number: int) -> None:
        lock = one if shares == "lock" else AsyncLock(redis, "all", namespace=namespace)
        async with lock:
            await body()
        async with AsyncLock(redis, f"own:{number}", namespace=namespace).hold(timeout=10):
            await lock.inspect()
        theirs = redis.lock(f"{namespace}redis-py", timeout=10, lock_class=RedisPyLock)
        async with theirs:
            pass

    def work(number: int) -> None:
        for _ in range(LOOPS):
            asyncio.run(asyncio.wait_for(use(number), 30))

    in_threads(work)
    assert body.times == THREADS * LOOPS


def test_memory_that_loops_of_several_threads_share_has_one_holder() -> None:
    """Clients that share memory exclude each other across threads, and wake each other."""
    first = LockClient.in_memory()
    body = Exclusive()

    async def use() -> None:
        async with LockClient.in_memory(share=first) as locks:
            lock = locks.lock("n")
            for _ in range(5):
                async with lock.hold(timeout=20):
                    await body()
            for _ in range(200):
                lease = await lock.try_acquire()
                if lease is not None:
                    await body()
                    await lease.release()

    # In debug mode, asyncio tells of a loop that is called from another thread.
    in_threads(lambda _: asyncio.run(asyncio.wait_for(use(), 30), debug=True))
    assert body.times > THREADS * 5


def test_listeners_come_and_go_in_some_threads_while_clients_begin_in_others() -> None:
    """No listener is forgotten, by no client, and no table changes while a thread reads it."""
    clients: list[LockClient] = []
    listeners: list[Callable[[LockEvent], None]] = []

    def work(number: int) -> None:
        if number % 2:
            clients.extend(LockClient.in_memory() for _ in range(200))
            return

        def listener(event: LockEvent) -> None:
            pass

        listeners.append(listener)
        for _ in range(40):
            remove_listener(listener)
            add_listener(listener)

    try:
        in_threads(work)
        wanted = set(listeners)
        assert all({one.listener for one in each._listeners.all} == wanted for each in clients)
    finally:
        for listener in listeners:
            remove_listener(listener)


def test_a_clients_end_in_one_loop_is_none_in_another(redis_url: str, namespace: str) -> None:
    """Closing, cancelling and collecting in one thread leaves the others' leases alone."""
    redis = Redis.from_url(redis_url)
    held, ended = threading.Barrier(2), threading.Event()

    async def hold() -> None:
        async with AsyncLock(redis, "held", namespace=namespace) as lease:
            mine = shared_engines(redis)
            await asyncio.to_thread(held.wait, 10)
            await asyncio.to_thread(ended.wait, 10)
            await lease.extend(20.0)
            assert shared_engines(redis) is mine

    async def end() -> None:
        async with AsyncLock(redis, "other", namespace=namespace):
            client = shared_engines(redis)
        await client.aclose()
        gc.collect()

    def work(number: int) -> None:
        if number == 0:
            asyncio.run(asyncio.wait_for(hold(), 30))
            return
        held.wait(10)
        try:
            for _ in range(5):
                asyncio.run(end())
        finally:
            ended.set()

    in_threads(work, 2)
