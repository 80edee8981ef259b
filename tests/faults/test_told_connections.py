"""What the log says about connections that are lost."""

import asyncio
import logging

import pytest
import redis.asyncio as redis_asyncio

from aiodistlock import LockClient
from aiodistlock.testing.embedded import EmbeddedRedis
from tests.deployments.cluster import Cluster
from tests.faults.world import client, eventually
from tests.proxy import ChaosProxy


def _told(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    return [
        (record.levelno, record.getMessage())
        for record in caplog.records
        if "no connection to Redis" in record.getMessage()
    ]


@pytest.mark.parametrize("held", [False, True], ids=["idle", "held"])
@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_hang_up_that_nobody_misses_is_no_warning(
    redis_url: str, namespace: str, caplog: pytest.LogCaptureFixture, protocol: int, held: bool
) -> None:
    """Servers hang up on idle connections: without a call under way that is DEBUG."""
    caplog.set_level(logging.DEBUG, "aiodistlock")
    async with (
        ChaosProxy.before(redis_url) as proxy,
        client(proxy.url, protocol=protocol) as locks,
    ):
        lease = await locks.lock("n", namespace=namespace).acquire()
        if not held:
            await lease.release()
        await proxy.cut()

        async def told() -> list[int]:
            return [level for level, _ in _told(caplog)]

        await eventually(told, [logging.DEBUG])
        if held:
            await lease.release()


async def test_a_connection_that_is_missed_is_one_warning_with_the_address(
    embedded_redis: EmbeddedRedis, caplog: pytest.LogCaptureFixture
) -> None:
    """However often it fails in one outage; the next outage is told again."""
    caplog.set_level(logging.WARNING, "aiodistlock")
    async with client(embedded_redis.url) as locks:
        lock = locks.lock("n")
        await (await lock.acquire()).release()
        for count in (1, 2):
            embedded_redis.kill()
            waiting = asyncio.create_task(lock.acquire())
            await asyncio.wait([waiting], timeout=0.3)  # real time, for several tries
            embedded_redis.start()
            await (await waiting).release()
            assert len(_told(caplog)) == count
            assert f"127.0.0.1:{embedded_redis.port}" in _told(caplog)[-1][1]
            await asyncio.sleep(1.1)  # real time: looked at once a second at the latest


async def test_each_node_of_a_quorum_is_told_by_its_address(
    five_nodes: list[EmbeddedRedis], caplog: pytest.LogCaptureFixture
) -> None:
    """Who reads the log knows which node to look at."""
    caplog.set_level(logging.WARNING, "aiodistlock")
    async with LockClient.from_url([node.url for node in five_nodes[:3]]) as locks:
        lock = locks.lock("n")
        await (await lock.acquire(timeout=10)).release()
        five_nodes[0].kill()
        await (await lock.acquire(timeout=10)).release()

        async def told() -> bool:
            return any(f"127.0.0.1:{five_nodes[0].port}" in text for _, text in _told(caplog))

        await eventually(told, True)


async def test_a_node_of_a_cluster_is_told_by_its_address(
    cluster: Cluster, cluster_namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The same for the primaries of a cluster."""
    caplog.set_level(logging.DEBUG, "aiodistlock")
    async with LockClient.from_url(cluster.url) as locks:
        await (await locks.lock("n", namespace=cluster_namespace).acquire()).release()
        node = cluster.owner(f"{cluster_namespace}n")
        async with redis_asyncio.from_url(node.server.url) as redis:
            await redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")  # type: ignore[no-untyped-call, unused-ignore]
            await redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub", "SKIPME", "yes")  # type: ignore[no-untyped-call, unused-ignore]

        async def told() -> bool:
            return any(f"127.0.0.1:{node.port}" in text for _, text in _told(caplog))

        await eventually(told, True)
