"""What an outage of Redis must not leave behind once it is over, or while it lasts."""

import asyncio

import pytest
import redis.asyncio as redis_asyncio

from aiodistlock import AcquireTimeout, AsyncLock, LockClient, StoreUnavailable
from aiodistlock.connection.pipe import Pipe
from aiodistlock.engines import shared_engines
from aiodistlock.protocol.grant_message import prove
from aiodistlock.testing.embedded import EmbeddedRedis
from tests.faults.world import eventually


def _pipe(client: LockClient) -> Pipe:
    pipe = client._engine("n").connection
    assert isinstance(pipe, Pipe)
    return pipe


async def test_acquires_that_time_out_during_an_outage_do_not_pile_up(
    embedded_redis: EmbeddedRedis,
) -> None:
    """What nobody waits for any more is dropped within a second or so."""
    async with LockClient.from_url(embedded_redis.url) as locks:
        lock = locks.lock("n")
        assert not await lock.locked()
        embedded_redis.kill()
        for _ in range(30):
            with pytest.raises(AcquireTimeout):
                await lock.acquire(timeout=0.01)
        backlog = _pipe(locks)._backlog

        async def unsent() -> bool:
            return len(backlog.unsent) <= 31  # the abandons, for as long as they may help

        await eventually(unsent, True)


@pytest.mark.parametrize("end", ["kill", "freeze"])
async def test_a_timeout_in_an_outage_names_no_former_holder(
    embedded_redis: EmbeddedRedis, end: str
) -> None:
    """Who held the lock at an earlier wait is nobody who holds it now."""
    async with (
        LockClient.from_url(embedded_redis.url) as locks,
        LockClient.from_url(embedded_redis.url) as elsewhere,
    ):
        lock = locks.lock("n")
        async with elsewhere.lock("n"):
            with pytest.raises(AcquireTimeout) as caught:
                await lock.acquire(timeout=0.1)
        assert caught.value.holder is not None
        getattr(embedded_redis, end)()
        with pytest.raises(AcquireTimeout) as caught:
            await lock.acquire(timeout=0.1)
        assert caught.value.holder is None


async def test_a_server_that_is_busy_as_we_connect_is_asked_again(
    embedded_redis: EmbeddedRedis,
) -> None:
    """BUSY at the handshake is no refusal for good: acquire goes on, and waiters queue."""
    async with redis_asyncio.from_url(embedded_redis.url, socket_timeout=None) as admin:
        await admin.config_set("lua-time-limit", 20)  # the name that 6.2 and 8 both know
        spin = "local t=redis.call('TIME'); local e=t[1]*1000000+t[2]+700000; "
        spin += "repeat t=redis.call('TIME') until t[1]*1000000+t[2]>e; return 1"

        async def spinning() -> None:
            await admin.eval(spin, 0)  # type: ignore[no-untyped-call, unused-ignore]

        busy = asyncio.create_task(spinning())
        await asyncio.sleep(0.15)  # let the script run beyond the threshold
        async with LockClient.from_url(f"{embedded_redis.url}/1?protocol=3") as locks:
            lease = await locks.lock("n").acquire(timeout=10)
            await lease.release()
            pipe = _pipe(locks)

            async def listening() -> bool:
                return pipe._inbox.heard_on_pipe

            await eventually(listening, True)
        await busy


async def test_a_message_that_is_no_grant_of_ours_breaks_nothing(
    redis_url: str, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """Anybody may publish: keys that cannot be locks, and bytes that are no text."""
    async with LockClient.from_url(redis_url, protocol=3) as locks:
        lock = locks.lock("n", namespace=namespace)
        assert not await lock.locked()
        pipe = _pipe(locks)
        wire = pipe._wire
        secret = pipe._inbox.address.split(b" ")[1]
        grants = (b"2 1 1 1000 t a{b", b"2 1 1 1000 t \xff\xfe", b"2 1 1 1000 t aiodistlock:x")
        proven = [prove(grant, secret) + b" " + grant for grant in grants]
        for payload in (*proven, *grants, b"garbage"):
            assert await redis.publish(pipe._inbox.channel.decode(), payload) == 1
        assert not await lock.locked()
        assert pipe._wire is wire


async def test_a_shared_client_whose_tasks_were_cancelled_is_replaced(
    redis: redis_asyncio.Redis, namespace: str
) -> None:
    """A handler that cancels all tasks of a loop that lives on ends no lock for good."""
    lock = AsyncLock(redis, "n", namespace=namespace)
    async with lock:
        pass
    ours = [task for task in asyncio.all_tasks() if task.get_name().startswith("aiodistlock")]
    assert ours
    for task in ours:
        task.cancel()
    await asyncio.wait(ours)
    async with lock.hold(timeout=5):
        pass
    await shared_engines(redis).aclose()


async def test_a_lease_whose_clients_tasks_were_cancelled_says_so(
    redis: redis_asyncio.Redis, namespace: str
) -> None:
    """Extending and releasing it fail with the cause; its key expires by itself."""
    lease = await AsyncLock(redis, "n", namespace=namespace, ttl=1.5).acquire()
    ours = [task for task in asyncio.all_tasks() if task.get_name().startswith("aiodistlock")]
    for task in ours:
        task.cancel()
    await asyncio.wait(ours)
    with pytest.raises(StoreUnavailable, match="closed, or its tasks cancelled"):
        await lease.extend(5.0)
    with pytest.raises(StoreUnavailable, match="closed, or its tasks cancelled"):
        await lease.release()
    await shared_engines(redis).aclose()

    async def gone() -> bool:
        return not await redis.exists(f"{namespace}n")

    await eventually(gone, True)
