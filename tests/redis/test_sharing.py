"""What locks share: one connection, one subscription, one LockClient per loop."""

import asyncio
import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from anyio import fail_after
from redis.asyncio import Redis

from aiodistlock import AsyncLock, LockClient
from aiodistlock.engines import shared_engines
from aiodistlock.protocol import scripts
from aiodistlock.testing.embedded import EmbeddedRedis
from tests.proxy import scripts_in
from tests.redis.clients import NEVER, closing, connections, pair
from tests.resp import flat_blobs, frame_end

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("protocol", "waiting"), [(3, 1), (2, 2)])
async def test_all_locks_of_a_client_share_a_connection(
    redis_url: str, namespace: str, protocol: int, waiting: int
) -> None:
    """However many locks there are: one connection, under RESP2 one more to wait with."""
    name = namespace.replace(":", "-")
    async with (
        Redis.from_url(redis_url) as admin,
        closing(Redis.from_url(redis_url, client_name=name, protocol=protocol)) as redis,
    ):
        locks = [AsyncLock(redis, f"wallet:{n}", namespace=namespace) for n in range(30)]
        leases = await asyncio.gather(*(lock.acquire() for lock in locks))
        assert await connections(admin, name) == 1
        async with closing(Redis.from_url(redis_url)) as other:
            theirs = [AsyncLock(other, lock.name, namespace=namespace) for lock in locks]
            await asyncio.gather(*(lease.release() for lease in leases))
            leases = await asyncio.gather(*(lock.acquire() for lock in theirs))
            tasks = [asyncio.create_task(lock.acquire()) for lock in locks]
            while not all([(await lock.inspect()).waiters for lock in theirs]):
                await asyncio.sleep(0)
            assert await connections(admin, name) == waiting
            await asyncio.gather(*(lease.release() for lease in leases))
            for task in tasks:
                await (await task).release()
        assert await connections(admin, name) == waiting


@pytest.mark.parametrize("protocol", [2, 3])
async def test_all_waiters_share_a_subscription(
    embedded_redis: EmbeddedRedis, protocol: int
) -> None:
    """However many tasks wait for however many names, a client subscribes once."""
    async with pair(embedded_redis.url, protocol=protocol) as (redis, other):
        names = [f"wallet:{n}" for n in range(10)]
        held = [await AsyncLock(other, name).acquire() for name in names]
        locks = [AsyncLock(redis, name, backoff=NEVER) for name in names for _ in range(5)]
        tasks = [asyncio.create_task(lock.acquire()) for lock in locks]
        while not all([(await lock.inspect()).waiters for lock in locks]):
            await asyncio.sleep(0)
        mine = shared_engines(redis)
        assert shared_engines(redis) is mine
        channels = await redis.pubsub_channels("aiodistlock:inbox:*")
        counts = await redis.pubsub_numsub(*channels)
        assert [count for _, count in counts] == [1] * len(channels)
        # RESP3 hears on its one connection from the start, RESP2 once somebody waits.
        assert len(channels) == (2 if protocol == 3 else 1)
        for lease in held:
            await lease.release()
        for task in tasks:
            await (await task).release()


def _operations(data: bytes) -> int:
    """Return how many scripts a write runs by name, be it by one request for all."""
    at = count = 0
    while (end := frame_end(data, at)) is not None:
        args = flat_blobs(data[at:end])
        if args[0] == b"EVALSHA":
            count += len(scripts_in(args)) if args[1] == scripts.BATCH.sha else 1
        at = end
    return count


def _count_writes(
    monkeypatch: pytest.MonkeyPatch, also: Callable[[], object] = lambda: None
) -> list[int]:
    """Take note of the number of operations in each write that has any."""
    from asyncio.selector_events import _SelectorSocketTransport as Transport  # type: ignore[attr-defined]  # fmt: skip

    writes: list[int] = []
    write = Transport.write

    def counted(self: Any, data: bytes) -> None:
        if operations := _operations(data):
            writes.append(operations)
            also()
        write(self, data)

    monkeypatch.setattr(Transport, "write", counted)
    return writes


async def test_requests_of_a_turn_leave_together(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """64 tasks that acquire in one turn of the loop cost a few writes, not 64."""
    writes = _count_writes(monkeypatch)
    async with LockClient.from_url(redis_url) as client, Redis.from_url(redis_url) as redis:
        await redis.script_load(scripts.BATCH.source)
        await client.lock("first", namespace=namespace).locked()
        locks = [client.lock(f"wallet:{n}", namespace=namespace) for n in range(64)]
        for _ in range(2):
            writes.clear()
            leases = await asyncio.gather(*(lock.acquire() for lock in locks))
            # Of 8 to 32 requests each, so that the server works while we pack.
            assert sum(writes) == 64
            assert 2 <= len(writes) <= 8
            assert max(writes) <= 32
            writes.clear()
            await asyncio.gather(*(lease.release() for lease in leases))
            assert sum(writes) == 64
            # The replies come in portions, and each wakes its tasks.
            assert len(writes) <= 32


async def test_what_an_answer_wakes_is_sent_in_the_same_turn(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next request of a task that got its answer does not wait for the loop's next turn."""
    loop: Any = asyncio.get_running_loop()
    run_once, turns = loop._run_once, 0

    def counted() -> None:
        nonlocal turns
        turns += 1
        run_once()

    monkeypatch.setattr(loop, "_run_once", counted)
    sent: list[int] = []
    _count_writes(monkeypatch, lambda: sent.append(turns))
    async with LockClient.from_url(redis_url) as client:
        lock = client.lock("n", namespace=namespace)
        await lock.locked()
        sent.clear()
        answered = []
        for _ in range(3):
            await lock.locked()
            answered.append(turns)
        assert sent[1:] == answered[:-1]


async def test_due_renewals_leave_together(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leases of the same age are renewed in a few writes by one task."""
    writes = _count_writes(monkeypatch)
    async with LockClient.from_url(redis_url) as client:
        locks = [client.lock(f"wallet:{n}", namespace=namespace, ttl=2.0) for n in range(64)]
        leases = await asyncio.gather(*(lock.acquire() for lock in locks))
        writes.clear()
        with fail_after(5):
            while sum(writes) < 64:
                await asyncio.sleep(0.01)  # the third of a ttl has to pass
        # Their answers came in portions, so they are due in neighbouring steps.
        assert len(writes) <= 16
        names = [task.get_name() for task in asyncio.all_tasks()]
        assert sum("watchdog" in name for name in names) == 1
        await asyncio.gather(*(lease.release() for lease in leases))


def test_a_second_loop_has_a_client_of_its_own(redis_url: str, namespace: str) -> None:
    """One lock object serves several event loops, one after the other."""
    redis = Redis.from_url(redis_url)
    lock = AsyncLock(redis, "wallet", namespace=namespace)
    fences = []
    clients = []

    async def use() -> None:
        async with lock as lease:
            fences.append(lease.fencing_token)
            clients.append(shared_engines(redis))

    for _ in range(3):
        asyncio.run(use())
    assert fences == sorted(set(fences))
    assert len({id(client) for client in clients}) == 3


def test_loops_in_threads_exclude_each_other(redis_url: str, namespace: str) -> None:
    """One lock object in two running loops is one lock."""
    lock = AsyncLock(Redis.from_url(redis_url), "wallet", namespace=namespace)
    inside = 0
    visits = 0

    async def visit() -> None:
        nonlocal inside, visits
        async with asyncio.timeout(20):
            for _ in range(20):
                async with lock:
                    inside += 1
                    assert inside == 1
                    await asyncio.sleep(0)
                    inside -= 1
                    visits += 1

    threads = [threading.Thread(target=lambda: asyncio.run(visit())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert visits == 40


async def test_a_forgotten_client_takes_its_connection_along(
    redis_url: str, namespace: str
) -> None:
    """A client object that is collected ends what its locks shared."""
    name = namespace.replace(":", "-")
    async with Redis.from_url(redis_url) as admin:
        for make in (_use_shared, _use_own):
            await make(redis_url, namespace, name)
            gc.collect()
            with fail_after(5):
                while await connections(admin, name):
                    await asyncio.sleep(0)


async def _use_shared(url: str, namespace: str, name: str) -> None:
    redis = Redis.from_url(url, client_name=name)
    async with AsyncLock(redis, "wallet", namespace=namespace):
        assert await connections(redis, name) == 2
    await redis.aclose()


async def _use_own(url: str, namespace: str, name: str) -> None:
    client = LockClient.from_url(url, client_name=name)
    async with client.lock("wallet", namespace=namespace):
        pass


FORKED = """
import asyncio, os, sys
from redis.asyncio import Redis
from aiodistlock import AsyncLock, LockClient, LockError

url, namespace = sys.argv[1:]
redis = Redis.from_url(url)
client = LockClient.from_url(url)
own = client.lock("own", namespace=namespace)
shared = AsyncLock(redis, "shared", namespace=namespace)

async def acquire():
    return await own.acquire(), await shared.acquire()

async def misuse():
    for what in (own.acquire, own.try_acquire, own.locked, own_lease.release, client.aclose):
        try:
            await what()
        except LockError as error:
            assert "fork" in str(error), error
        else:
            raise AssertionError(f"{what} worked in the child")
    for lease in (own_lease, shared_lease):
        assert not lease.is_held and lease.validity == 0.0
        try:
            lease.check()
        except LockError as error:
            assert "parent" in str(error), error
        else:
            raise AssertionError("the child holds the parent's lease")
    # A client object of redis-py gets a new LockClient in the new loop.
    assert await shared.try_acquire() is None
    async with AsyncLock(redis, "another", namespace=namespace):
        pass

loop = asyncio.new_event_loop()
own_lease, shared_lease = loop.run_until_complete(acquire())
pid = os.fork()
if pid == 0:
    status = 1
    try:
        asyncio.run(misuse())
        status = 0
    finally:
        sys.stderr.flush()
        os._exit(status)
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

async def go_on():
    own_lease.check()
    await own_lease.extend(5.0)
    await own_lease.release()
    await shared_lease.release()
    await client.aclose()

loop.run_until_complete(go_on())
sys.exit(status)
"""


def test_a_forked_child_is_told(redis_url: str, namespace: str) -> None:
    """After ``os.fork`` the child gets clear errors, and the parent goes on undisturbed."""
    done = subprocess.run(
        [sys.executable, "-c", FORKED, redis_url, namespace],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
