"""What clients leave behind when they are closed, forgotten, or cut short: nothing."""

import asyncio
import gc
import subprocess
import sys
import textwrap
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis.asyncio as redis_asyncio

from aiodistlock import AcquireTimeout, AsyncLock, LockClient, LockError
from aiodistlock.testing.embedded import EmbeddedRedis, TlsFiles
from tests.faults.world import EAGER, client, eventually, nothing_left

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def own(embedded_redis: EmbeddedRedis) -> AsyncIterator[redis_asyncio.Redis]:
    """A plain client of the test's own server: every other connection there is ours."""
    async with redis_asyncio.from_url(embedded_redis.url, single_connection_client=True) as redis:
        yield redis


async def connections(own: redis_asyncio.Redis) -> int:
    """Count the connections to the server besides the one that asks."""
    return len(await own.client_list()) - 1


def our_tasks() -> list[str]:
    """Name the tasks of the package that are running."""
    names = (task.get_name() for task in asyncio.all_tasks())
    return [name for name in names if name.startswith("aiodistlock")]


async def nothing_open(own: redis_asyncio.Redis) -> None:
    """Check that soon there is no task, connection, subscription, or key."""
    await eventually(lambda: connections(own), 0)
    assert await own.pubsub_channels("*") == []
    await nothing_left(own, "lock:")
    assert our_tasks() == []


async def test_no_task_outlasts_aclose_where_the_connection_was_lost_before(
    embedded_redis: EmbeddedRedis, own: redis_asyncio.Redis
) -> None:
    """Nothing of a client runs any more as soon as it is closed, not a turn of the loop later."""
    before = asyncio.all_tasks()
    made = client(embedded_redis.url)
    async with made.lock("n"):
        pass
    await own.client_kill_filter(skipme=True)

    async def connecting() -> bool:
        return "aiodistlock pipe" in our_tasks()

    await eventually(connecting, False)
    await made.aclose()
    assert asyncio.all_tasks() == before


@pytest.mark.bounded(60)
async def test_1000_clients_opened_and_closed_leave_nothing(
    embedded_redis: EmbeddedRedis, own: redis_asyncio.Redis
) -> None:
    """After use as holder and as waiter, under both protocols, by aclose and by ``with``."""
    url, numbers = embedded_redis.url, iter(range(1000))

    async def users() -> None:
        for number in numbers:
            # Twenty clients at a time keep the loop busy: the claim may take long.
            made = client(url, protocol=2 + number % 2, claim_window=20.0)
            lock = made.lock(f"n{number % 5}", backoff=EAGER)
            async with lock:
                await asyncio.sleep(0)
            if number % 3:
                await made.aclose()
            else:
                async with made:
                    _lease = await lock.try_acquire()  # released by the close

    await asyncio.gather(*(users() for _ in range(20)))
    gc.collect()
    await nothing_open(own)


async def test_a_client_that_is_closed_while_others_use_it_leaves_nothing(
    embedded_redis: EmbeddedRedis, own: redis_asyncio.Redis
) -> None:
    """Held, waited for, in the queue, timing out: all of that ends with the client."""
    for protocol in (2, 3):
        made = client(embedded_redis.url, protocol=protocol)
        there = client(embedded_redis.url, protocol=protocol)
        theirs = await there.lock("theirs").acquire()
        held = [await made.lock(f"n{number}").acquire() for number in range(50)]

        async def use(name: str, made: LockClient = made) -> None:
            async with made.lock(name).hold(timeout=20):
                await asyncio.sleep(20)

        users = [asyncio.create_task(use(name)) for name in ("a", "a", "theirs", "theirs", "n7")]
        await eventually(lambda: own.zcard("aiodistlock:queue:{lock:theirs}"), 1)
        await made.aclose()
        results = await asyncio.gather(*users, return_exceptions=True)
        assert all(isinstance(result, Exception) for result in results), results
        assert not any(lease.is_held for lease in held)
        await theirs.release()
        await there.aclose()
        await nothing_open(own)


async def test_a_held_lock_takes_two_kilobytes_at_most(redis_url: str) -> None:
    """Lock, lease, watchdog and all, counted by tracemalloc over 5,000 held locks."""
    async with client(redis_url) as made:
        await (await made.lock("warm", namespace="leak:").acquire()).release()
        gc.collect()
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            locks = [made.lock(f"n{number}", namespace="leak:") for number in range(5000)]
            leases = [await lock.acquire() for lock in locks]  # tasks would count too
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        each = (after - before) / len(leases)
        print(f"{each:.0f} bytes per held lock")  # noqa: T201 - a figure of the release note
        assert each <= 2048
        await asyncio.gather(*(lease.release() for lease in leases))
        del locks, leases
        gc.collect()
        assert not made._engine("leak")._contenders
    async with redis_asyncio.from_url(redis_url) as redis:
        assert [key async for key in redis.scan_iter(match="*leak:*", count=1000)] == []


@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_forgotten_redis_client_takes_its_lock_client_along(
    embedded_redis: EmbeddedRedis, own: redis_asyncio.Redis, protocol: int
) -> None:
    """No close, only the collector: no task and no connection is left."""

    async def use() -> None:
        redis = redis_asyncio.from_url(embedded_redis.url, protocol=protocol)
        lock = AsyncLock(redis, "n", local_handoffs=0)
        async with lock:
            # In another task: this one would be told that it waits for itself.
            with pytest.raises(AcquireTimeout):
                await asyncio.create_task(lock.acquire(timeout=0.05))

    await use()
    assert our_tasks()
    gc.collect()
    await eventually(lambda: connections(own), 0)
    await asyncio.sleep(0)
    await nothing_open(own)


async def test_a_lease_keeps_a_forgotten_redis_client_and_its_watchdog_alive(
    embedded_redis: EmbeddedRedis, own: redis_asyncio.Redis
) -> None:
    """Who holds only the lease still holds the lock, renewed."""
    lease = await AsyncLock(redis_asyncio.from_url(embedded_redis.url), "n", ttl=3.0).acquire()
    gc.collect()
    # Real time: more than the ttl, which only renewals survive.
    await asyncio.sleep(3.1)
    lease.check()
    await lease.release()
    del lease
    gc.collect()
    await nothing_open(own)


ENDINGS = {
    "idle": "await (await lock.acquire()).release()",
    "held": "globals()['kept'] = await lock.acquire()",
    "waited for": """
        globals()['kept'] = await lock.acquire()
        other = AsyncLock(make(), lock.name, ttl=5.0)
        globals()['waiting'] = asyncio.ensure_future(other.acquire())
        await asyncio.sleep(0.1)
    """,
    "in the body": """
        async def body():
            async with lock:
                await asyncio.sleep(20)
        globals()['running'] = asyncio.ensure_future(body())
        await asyncio.sleep(0.1)
    """,
    "connecting": "asyncio.ensure_future(lock.acquire()); await asyncio.sleep(0)",
    "unreachable": """
        url = "redis://127.0.0.1:1"
        lock = AsyncLock(make(url), "n")
        try:
            await lock.acquire(timeout=0.1)
        except TimeoutError:
            pass
    """,
}


def program(url: str, ending: str, protocol: int, source: str) -> str:
    """Write a program that uses locks and ends without closing anything."""
    return f"""
import asyncio, logging
import redis.asyncio
from aiodistlock import AsyncLock, LockClient
logging.basicConfig(level="ERROR")

def make(url="{url}"):
    if "{source}" == "Redis":
        return redis.asyncio.Redis.from_url(url, protocol={protocol})
    return LockClient.from_url(url, protocol={protocol})

async def main():
    lock = AsyncLock(make(), "{source}{protocol}", ttl=5.0)
{textwrap.indent(textwrap.dedent(ENDINGS[ending]).strip(), "    ")}

asyncio.run(main())
"""


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_program_that_ends_without_any_close_ends_without_a_warning(
    embedded_redis: EmbeddedRedis, ending: str
) -> None:
    """No "Task was destroyed", no ResourceWarning, no traceback, with -X dev -W error."""
    started = [
        subprocess.Popen(
            [sys.executable, "-X", "dev", "-W", "error", "-c", text],
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for source in ("Redis", "LockClient")
        for protocol in (2, 3)
        for text in [program(embedded_redis.url, ending, protocol, source)]
    ]
    # All end before any is judged: a failure must not leave the others running.
    told = [process.communicate(timeout=30)[1] for process in started]
    assert told == [""] * len(started)
    assert [process.returncode for process in started] == [0] * len(started)


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("ending", ["no close", "close", "close when frozen"])
def test_a_program_ends_with_its_tls_connections(
    tls_redis: EmbeddedRedis, tls_files: TlsFiles, ending: str, protocol: int
) -> None:
    """The server's goodbye is waited for, or the connection cut: the loop waits for neither."""

    async def main() -> None:
        client = LockClient.from_url(
            tls_redis.url, ssl_ca_certs=str(tls_files.ca), protocol=protocol
        )
        async with client.lock("n"):
            waiting = asyncio.ensure_future(client.lock("n").acquire())
            await asyncio.sleep(0.1)  # so that the second connection of RESP2 is open
            waiting.cancel()
        if ending == "close when frozen":
            tls_redis.freeze()
        if ending != "no close":
            await client.aclose()

    asyncio.run(main())
    tls_redis.thaw()
    gc.collect()  # where a transport is left, its ResourceWarning fails the test


async def test_cycles_and_renewals_leave_nothing_to_the_garbage_collector(
    redis_url: str, namespace: str
) -> None:
    """What each of them made is freed as it ends: the collector's runs are the users'."""
    # Of former tests: with a client goes what kept its engine, and only then the engine.
    while gc.collect():
        pass
    locks = LockClient.from_url(redis_url)
    lock = locks.lock("n", namespace=namespace)
    held = await locks.lock("held", namespace=namespace, ttl=3.0).acquire()

    async def work() -> None:
        for _ in range(50):
            async with lock:
                pass
        await asyncio.sleep(1.1)  # a renewal is due meanwhile

    await work()
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        await work()
        gc.collect()
        ours = [each for each in gc.garbage if type(each).__module__.startswith("aiodistlock")]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert ours == []
    await held.release()
    await locks.aclose()


async def test_a_close_in_the_turn_of_a_hand_off_leaves_no_lease(
    redis_url: str, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """Whoever was handed it has not run since: it is told of the close, and asks for no other."""
    locks = client(redis_url)
    lock = locks.lock("n", ttl=30.0, namespace=namespace)
    lease = await lock.acquire()
    handed = asyncio.create_task(lock.acquire())
    await asyncio.sleep(0)
    await lease.release()
    assert not handed.done()
    await locks.aclose()
    with pytest.raises(LockError, match="closed"):
        await handed
    await nothing_left(redis, namespace)
