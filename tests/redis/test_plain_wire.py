"""Connections whose transport cannot be taken over, and such as cannot be used at all."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, cast

import fakeredis
import pytest
import redis.asyncio as redis_asyncio
from anyio import fail_after

from aiodistlock import AcquireTimeout, AsyncLock, LockClient, StoreUnavailable
from aiodistlock.connection import opening, transport
from tests.deployments.cluster import Cluster
from tests.faults.world import PATIENT


@pytest.fixture
def no_transport(monkeypatch: pytest.MonkeyPatch) -> None:
    """A redis-py that keeps its transport where nobody finds it."""
    for module in (transport, opening):
        monkeypatch.setattr(module, "transport_of", lambda _connection: None)


@pytest.fixture(params=[3, 2], ids=["resp3", "resp2"])
def protocol(request: pytest.FixtureRequest) -> int:
    """Which RESP is spoken."""
    version: int = request.param
    return version


@pytest.fixture(params=["redis", "fakeredis"])
async def pair(
    request: pytest.FixtureRequest, protocol: int, redis_url: str, no_transport: None
) -> AsyncIterator[tuple[LockClient, LockClient]]:
    """Two clients that are two processes to the server, each on plain wires."""
    fake = fakeredis.FakeServer()
    async with AsyncExitStack() as stack:
        made = [
            redis_asyncio.from_url(redis_url, protocol=protocol)
            if request.param == "redis"
            else fakeredis.FakeAsyncRedis(server=fake, protocol=protocol)
            for _ in range(2)
        ]
        first, second = [await stack.enter_async_context(LockClient(each)) for each in made]
        yield first, second


async def test_a_grant_wakes_the_waiter_of_another_process(
    pair: tuple[LockClient, LockClient], namespace: str
) -> None:
    """Pub/sub is heard, under both protocols: nobody has to poll."""
    here, there = (
        each.lock("wallet", namespace=namespace, backoff=PATIENT, ttl=30.0) for each in pair
    )
    with fail_after(10):
        for _ in range(3):
            lease = await here.acquire()
            waiter = asyncio.create_task(there.acquire())
            while not (await here.inspect()).waiters:
                await asyncio.sleep(0.01)
            await lease.release()
            after = await waiter
            assert after.fencing_token > lease.fencing_token
            await after.release()


async def test_all_operations_go_the_plain_way(
    pair: tuple[LockClient, LockClient], namespace: str
) -> None:
    """Also many at once, and refusals of the server are what they are elsewhere."""
    here, there = (each.lock("wallet", namespace=namespace) for each in pair)
    with fail_after(10):
        lease = await here.acquire()
        await lease.extend(5.0)
        assert await there.try_acquire() is None
        with pytest.raises(AcquireTimeout):
            await there.acquire(timeout=0.05)
        await lease.release()
        names = [f"w{number}" for number in range(50)]
        async with asyncio.TaskGroup() as group:
            for name in names:
                lock = pair[0].lock(name, namespace=namespace)
                group.create_task(_visit(lock))


async def _visit(lock: AsyncLock) -> None:
    async with lock:
        assert await lock.locked()


async def test_a_refusal_keeps_its_code(
    no_transport: None, redis_url: str, namespace: str, protocol: int
) -> None:
    """redis-py cuts NOSCRIPT and the like off; a flushed script cache is made good as ever."""
    async with (
        redis_asyncio.from_url(redis_url) as plain,
        LockClient(redis_asyncio.from_url(redis_url, protocol=protocol)) as locks,
    ):
        lock = locks.lock("wallet", namespace=namespace)
        with fail_after(10):
            async with lock:
                await plain.script_flush()
            async with lock:
                pass
            await plain.lpush(f"{namespace}list", 1)
            with pytest.raises(StoreUnavailable, match="WRONGTYPE"):
                await locks.lock("list", namespace=namespace).acquire()
            await plain.delete(f"{namespace}list")


async def test_a_lost_connection_is_opened_anew(
    no_transport: None, redis_url: str, namespace: str, protocol: int
) -> None:
    """Killed by the server while a lease is held, idle or waited for."""
    name = f"plain-{namespace.strip(':').replace(':', '-')}"
    async with (
        redis_asyncio.from_url(redis_url) as plain,
        LockClient(redis_asyncio.from_url(redis_url, protocol=protocol, client_name=name)) as locks,
    ):
        lock = locks.lock("wallet", namespace=namespace)

        async def kill() -> None:
            for client in await plain.client_list():
                if client["name"] == name:
                    await plain.client_kill_filter(_id=client["id"])

        with fail_after(10):
            for _ in range(3):
                lease = await lock.acquire()
                await kill()
                await lease.extend(5.0)
                await kill()
                await lease.release()
                assert not await lock.locked()


async def test_a_cluster_is_reached_the_plain_way(
    no_transport: None, cluster: Cluster, cluster_namespace: str
) -> None:
    """Sharded channels and all."""
    async with (
        LockClient.from_url(cluster.url) as here,
        LockClient.from_url(cluster.url) as there,
    ):
        first, second = (
            each.lock("wallet", namespace=cluster_namespace, ttl=5.0) for each in (here, there)
        )
        with fail_after(20):
            lease = await first.acquire()
            waiter = asyncio.create_task(second.acquire())
            await asyncio.sleep(0.1)  # it may queue, or poll: either is right here
            await lease.release()
            await (await waiter).release()


def test_what_is_held_is_released_as_the_loop_ends() -> None:
    """``asyncio.run`` cancels all tasks at once, those that carry the plain wire, too."""
    server = fakeredis.FakeServer()

    async def hold(held: asyncio.Event) -> None:
        async with AsyncLock(fakeredis.FakeAsyncRedis(server=server), "wallet", ttl=60.0):
            held.set()
            await asyncio.Event().wait()

    async def main() -> None:
        held = asyncio.Event()
        task = asyncio.create_task(hold(held), name="holder")
        await held.wait()
        assert not task.done()

    asyncio.run(main())
    left = fakeredis.FakeRedis(server=server).keys()
    assert [key for key in left if b"fence" not in key] == []


async def test_a_connection_that_cannot_be_used_is_named_at_once(redis_url: str) -> None:
    """What was passed has a pool, but its connections are no redis-py's."""

    class Odd:
        """A connection of somebody's own."""

    class Pool:
        def make_connection(self) -> Any:
            return Odd()

    class Client:
        connection_pool = Pool()

        async def aclose(self) -> None:
            """Nothing is open."""

    source: Any = Client()
    async with LockClient(source) as locks:
        with fail_after(1), pytest.raises(StoreUnavailable, match=r"Odd.*LockClient\.in_memory"):
            await locks.lock("wallet").acquire()


def test_fakeredis_without_lua_says_what_to_install() -> None:
    """At once, not after the timeout."""
    code = """
import sys; sys.modules["lupa"] = None
import asyncio, fakeredis
from aiodistlock import AsyncLock, StoreUnavailable
async def main():
    lock = AsyncLock(fakeredis.FakeAsyncRedis(), "wallet")
    try:
        async with asyncio.timeout(5):
            await lock.acquire()
    except StoreUnavailable as error:
        print(error)
asyncio.run(main())
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert "fakeredis[lua]" in done.stdout, done
    assert "LockClient.in_memory()" in done.stdout


async def test_a_fault_in_a_task_of_ours_reaches_those_who_wait(
    monkeypatch: pytest.MonkeyPatch, redis_url: str, namespace: str
) -> None:
    """At once and with its cause, whatever the timeout; and the next one is told as well."""

    def broken(*_: object) -> None:
        raise AttributeError("no such thing as a transport")

    monkeypatch.setattr("aiodistlock.connection.pipe.Pipe.opened", broken)
    async with LockClient(redis_asyncio.from_url(redis_url)) as locks:
        lock = locks.lock("wallet", namespace=namespace)
        with fail_after(2):
            for _ in range(3):
                with pytest.raises(StoreUnavailable, match="no such thing") as told:
                    await lock.acquire(timeout=60.0)
                assert isinstance(told.value.causes[0].__cause__, AttributeError)


async def test_a_fault_after_a_good_start_reaches_those_who_wait(
    monkeypatch: pytest.MonkeyPatch, redis_url: str, namespace: str
) -> None:
    """It is no password that may be rotated yet: nobody connects any more."""

    def broken(*_: object) -> None:
        raise AttributeError("no such thing as a transport")

    async with LockClient(redis_asyncio.from_url(redis_url)) as locks:
        lock = locks.lock("wallet", namespace=namespace)
        with fail_after(5):
            assert not await lock.locked()
            pipe = cast(Any, locks._engine("wallet").connection)
            with monkeypatch.context() as context:
                context.setattr(pipe, "opened", broken)
                pipe._wire.abort(ConnectionError("says the test"))
                with pytest.raises(StoreUnavailable, match="no such thing"):
                    await lock.acquire(timeout=60.0)
            async with lock:  # and the next one tries again
                pass


async def test_a_fault_in_the_inbox_costs_no_more_than_the_grants(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    redis_url: str,
    namespace: str,
) -> None:
    """Waiters poll, and the log says why."""

    def broken(*_: object) -> None:
        raise AttributeError("no such thing as a channel")

    monkeypatch.setattr("aiodistlock.connection.inbox.Inbox.opened", broken)
    async with (
        LockClient(redis_asyncio.from_url(redis_url, protocol=2)) as here,
        LockClient(redis_asyncio.from_url(redis_url, protocol=2)) as there,
    ):
        first, second = (each.lock("wallet", namespace=namespace) for each in (here, there))
        with fail_after(10):
            lease = await first.acquire()
            waiter = asyncio.create_task(second.acquire())
            while "no such thing as a channel" not in caplog.text:
                await asyncio.sleep(0.01)  # it polls meanwhile
            await lease.release()
            await (await waiter).release()


async def test_a_fault_in_the_look_at_a_cluster_reaches_those_who_wait(
    monkeypatch: pytest.MonkeyPatch, cluster: Cluster, cluster_namespace: str
) -> None:
    """It was in a task that nobody awaits."""

    def broken(*_: object) -> None:
        raise AttributeError("no such thing as a slot")

    monkeypatch.setattr(
        "aiodistlock.deployments.cluster.connection.ClusterConnection._take_in", broken
    )
    async with LockClient.from_url(cluster.url) as locks:
        lock = locks.lock("wallet", namespace=cluster_namespace)
        with fail_after(5), pytest.raises(StoreUnavailable, match="no such thing as a slot"):
            await lock.acquire(timeout=60.0)
