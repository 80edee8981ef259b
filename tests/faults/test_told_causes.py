"""What an acquisition that ran out of time says about why."""

import asyncio
import pickle

import pytest
import redis.asyncio as redis_asyncio
from redis.exceptions import ResponseError

from aiodistlock import AcquireTimeout, AsyncLock, LockClient, StoreUnavailable
from aiodistlock.deployments.durable.store import NotAcknowledged
from aiodistlock.testing.discovery import LOOPBACK, free_port
from aiodistlock.testing.embedded import EmbeddedRedis
from tests.deployments.cluster import Cluster
from tests.faults.world import EAGER, client, eventually, waiters
from tests.proxy import ChaosProxy, Do, on


async def _timed_out(lock: AsyncLock, timeout: float = 0.5) -> AcquireTimeout:
    with pytest.raises(AcquireTimeout) as caught:
        await lock.acquire(timeout=timeout)
    error = caught.value
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes
    assert str(copy) == str(error)
    assert [str(each) for each in copy.causes] == [str(each) for each in error.causes]
    if len(error.causes) == 1:
        assert error.__cause__ is error.causes[0]
    elif error.causes:
        assert isinstance(error.__cause__, ExceptionGroup)
        assert error.__cause__.exceptions == error.causes
    else:
        assert error.__cause__ is None
    return error


@pytest.mark.parametrize("scheme", ["redis", "redis+cluster", "redis+sentinel"])
async def test_a_server_that_is_not_there_is_the_cause(scheme: str) -> None:
    """With the error of the last try to connect, on every deployment."""
    name = "/mymaster" if scheme == "redis+sentinel" else ""
    async with LockClient.from_url(f"{scheme}://{LOOPBACK}:{free_port()}{name}") as locks:
        error = await _timed_out(locks.lock("n"))
        assert "Redis gave no answer" in str(error)
        assert str(error.causes[0]) in str(error)
        assert any(word in str(error).lower() for word in ("connect", "sentinel"))


async def test_each_node_that_is_not_there_is_a_cause() -> None:
    """Of a quorum with its address."""
    ports = [free_port() for _ in range(3)]
    async with LockClient.from_url([f"redis://{LOOPBACK}:{port}" for port in ports]) as locks:
        error = await _timed_out(locks.lock("n"))
        assert len(error.causes) >= 2
        assert sum(str(port) in str(error) for port in ports) >= 2


@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_server_that_goes_while_somebody_waits_is_told_beside_the_holder(
    embedded_redis: EmbeddedRedis, protocol: int
) -> None:
    """Who held the lock when it was last seen, and what has kept Redis from answering since."""
    async with (
        client(embedded_redis.url, protocol=protocol) as here,
        client(embedded_redis.url, protocol=protocol) as there,
        redis_asyncio.from_url(embedded_redis.url) as redis,
    ):
        held = await here.lock("n", ttl=60.0).acquire()
        waiting = asyncio.create_task(_timed_out(there.lock("n", backoff=EAGER), 2.0))
        await eventually(lambda: waiters(redis, "lock:", "n"), 1)
        embedded_redis.kill()
        error = await waiting
        assert error.holder == held.token
        assert error.holder in str(error)
        assert isinstance(error.causes[0], OSError) or "onnect" in str(error.causes[0])


async def test_silence_is_a_cause(redis_url: str, namespace: str) -> None:
    """Where nothing at all is known but that no answer came."""
    async with ChaosProxy.before(redis_url) as proxy, client(proxy.url) as locks:
        await (await locks.lock("n", namespace=namespace).acquire()).release()
        proxy.rules = [on("request", "EVALSHA", Do.DROP)]
        error = await _timed_out(locks.lock("n", namespace=namespace))
        assert isinstance(error.causes[0], TimeoutError)
        assert "no answer for 0.5 s" in str(error)


async def test_a_refusal_that_passes_is_a_cause(embedded_redis: EmbeddedRedis) -> None:
    """As where too few replicas are there for the server to write at all."""
    async with (
        client(embedded_redis.url) as locks,
        redis_asyncio.from_url(embedded_redis.url) as redis,
    ):
        await redis.config_set("min-replicas-to-write", 1)
        error = await _timed_out(locks.lock("n"))
        assert "NOREPLICAS" in str(error)
        assert isinstance(error.__cause__, ResponseError)
        await redis.config_set("min-replicas-to-write", 0)
        await (await locks.lock("n").acquire()).release()


async def test_a_server_that_is_a_replica_is_a_cause(embedded_redis: EmbeddedRedis) -> None:
    """READONLY, though the connection is lost and made again all the time."""
    async with (
        client(embedded_redis.url) as locks,
        redis_asyncio.from_url(embedded_redis.url) as redis,
    ):
        await (await locks.lock("n").acquire()).release()
        await redis.execute_command("REPLICAOF", LOOPBACK, 1)  # type: ignore[no-untyped-call, unused-ignore]
        for timeout in (0.1, 0.3, 0.7):
            assert "READONLY" in str(await _timed_out(locks.lock("n"), timeout))


async def test_too_few_acknowledgements_are_a_cause(embedded_redis: EmbeddedRedis) -> None:
    """With how many of how many replicas have the lease."""
    async with client(embedded_redis.url) as locks:
        error = await _timed_out(locks.lock("n", ack="replicas:2", ttl=1.0), 0.8)
        assert isinstance(error.__cause__, NotAcknowledged)
        assert "0 of 2 replicas" in str(error)


async def test_nodes_in_quarantine_are_a_cause(five_nodes: list[EmbeddedRedis]) -> None:
    """A node that came up without its data says so, and for how long."""
    nodes = five_nodes[:3]
    async with LockClient.from_url([node.url for node in nodes], quarantine=20.0) as locks:
        lock = locks.lock("n", ttl=5.0)
        await (await lock.acquire(timeout=25)).release()
        for node in nodes[:2]:
            async with redis_asyncio.from_url(node.url) as redis:
                await redis.flushall()
        error = await _timed_out(lock, 1.0)
        assert "without its data" in str(error)
        assert len(error.causes) == 2


async def test_a_primary_that_is_gone_is_a_cause(cluster: Cluster, cluster_namespace: str) -> None:
    """Of a cluster, before another one takes over."""
    async with LockClient.from_url(cluster.url) as locks:
        lock = locks.lock("n", namespace=cluster_namespace)
        await (await lock.acquire(timeout=10)).release()
        cluster.kill(cluster.owner(f"{cluster_namespace}n"))
        error = await _timed_out(lock, 0.4)
        assert error.causes
        assert "onnect" in str(error)


async def test_a_lock_that_is_only_held_has_no_cause(redis_url: str, namespace: str) -> None:
    """Nor one that was in trouble before, and is not any more."""
    async with ChaosProxy.before(redis_url) as proxy, client(proxy.url) as locks:
        lease = await locks.lock("n", namespace=namespace).acquire()
        await proxy.cut()
        await lease.extend(20.0)
        async with client(redis_url) as others:
            error = await _timed_out(others.lock("n", namespace=namespace))
            assert not error.causes
            assert "it may renew" in str(error)
        await lease.release()


async def test_an_unavailable_store_has_its_cause(embedded_redis: EmbeddedRedis) -> None:
    """The other error about Redis names its ``__cause__`` as well."""
    embedded_redis.kill()
    async with client(embedded_redis.url, unavailable_after=0.5) as locks:
        with pytest.raises(StoreUnavailable) as caught:
            await locks.lock("n").acquire()
        assert caught.value.__cause__ is caught.value.causes[0]
