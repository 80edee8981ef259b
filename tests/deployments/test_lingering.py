"""Leases that linger, where another server takes over, or a slot moves."""

import asyncio
import signal
from typing import Any

import pytest
from anyio import fail_after

from aiodistlock.core.keys import LockKeys
from aiodistlock.core.value import read_value
from aiodistlock.deployments.cluster.connection import ClusterConnection
from aiodistlock.protocol.operations import Operations
from aiodistlock.protocol.scripts import ON_CLUSTER
from tests.deployments.cluster import Cluster, Node
from tests.deployments.sentinel import MASTER, SentinelDeployment
from tests.deployments.world import PATIENT, clients, name_on
from tests.faults.test_lingering import linger, overtaken, use
from tests.faults.test_processes import started
from tests.faults.world import eventually

pytestmark = pytest.mark.bounded(60)


@pytest.mark.parametrize("how", ["kill", "planned"])
async def test_after_a_failover_it_is_used_no_more(sentinels: SentinelDeployment, how: str) -> None:
    """The new master may know nothing of it; there another lease begins, and lingers."""
    async with sentinels.locks() as here, sentinels.locks() as there:
        lock = here.lock("n", ttl=30.0, linger=60.0)
        fence = await linger(here, lock)
        former = sentinels.master
        if how == "kill":
            former.kill()
        else:
            sentinels.ask(sentinels.sentinels[-1], "SENTINEL", "FAILOVER", MASTER)
        await sentinels.failed_over(former)

        async def ended() -> bool:
            return here.linger_counts.misses > 0

        await eventually(ended, True, within=20)
        hits = here.linger_counts.hits
        with fail_after(20):
            assert await use(lock) > fence
        assert here.linger_counts.hits == hits
        await linger(here, lock)
        with fail_after(20):
            await use(there.lock("n", backoff=PATIENT))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_behind_sentinels_an_idle_holder_that_cannot_answer_is_overtaken(
    sentinels: SentinelDeployment, number: signal.Signals
) -> None:
    """Its lease runs out, as any dead holder's."""
    async with (
        started(sentinels.url, "lock:", "linger", 1.5) as holder,
        sentinels.locks() as there,
    ):
        await overtaken(holder, there.lock("n", backoff=PATIENT), number)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_on_a_cluster_an_idle_holder_that_cannot_answer_is_overtaken(
    cluster: Cluster, cluster_namespace: str, number: signal.Signals
) -> None:
    """There as well."""
    if not cluster.sharded:
        pytest.skip("without sharded channels nothing lingers")
    async with (
        started(cluster.url, cluster_namespace, "linger", 1.5) as holder,
        clients(cluster, 1) as (there,),
    ):
        lock = there.lock("n", namespace=cluster_namespace, backoff=PATIENT)
        await overtaken(holder, lock, number)


async def test_on_a_cluster_a_waiter_recalls_it(cluster: Cluster, cluster_namespace: str) -> None:
    """On the slot's channel, to which the holder listens; of each primary."""
    if not cluster.sharded:
        pytest.skip("without sharded channels nothing lingers")
    async with clients(cluster) as (here, there):
        for node in cluster.primaries()[:2]:
            name = name_on(cluster, node, cluster_namespace)
            lock = here.lock(name, ttl=60.0, namespace=cluster_namespace, linger=60.0)
            fence = await linger(here, lock)
            with fail_after(15):
                other = there.lock(name, namespace=cluster_namespace, backoff=PATIENT)
                assert await use(other) > fence
        assert here.linger_counts[1:] == (0, 2)


async def test_without_sharded_channels_nothing_lingers(
    cluster: Cluster, cluster_namespace: str
) -> None:
    """No recall would be heard."""
    async with clients(cluster, 1) as (here,):
        lock = here.lock("n", namespace=cluster_namespace, linger=60.0)
        await use(lock)
        connection = here._engine("n").connection
        assert isinstance(connection, ClusterConnection)
        connection.inboxes.forbid()
        for _ in range(3):
            await use(lock)
        assert here.linger_counts == (0, 0, 0)


async def test_on_a_cluster_a_forced_release_reaches_it(
    cluster: Cluster, cluster_namespace: str
) -> None:
    """By the name of the slot's channel, of which the script is told."""
    if not cluster.sharded:
        pytest.skip("without sharded channels nothing lingers")
    async with clients(cluster, 1) as (here,), cluster.client() as client:
        redis: Any = client
        lock = here.lock("n", ttl=60.0, namespace=cluster_namespace, linger=60.0)
        fence = await linger(here, lock)
        token = read_value(await redis.get(f"{cluster_namespace}n")).token
        keys = LockKeys("n", cluster_namespace)
        call = Operations(ON_CLUSTER, by_slot=True).force_release(keys, token)
        void = f"{cluster_namespace}void:{{{cluster_namespace}n}}".encode()
        await redis.eval(call.script.source, *call.operands(void))

        async def recalls() -> int:
            return here.linger_counts.recalls

        await eventually(recalls, 1)
        assert await use(lock) > fence + 1_000


async def test_a_slot_that_moves_takes_no_lease_along_that_lingers(
    growing: tuple[Cluster, Node],
) -> None:
    """It is released where the slot is now, and the next one begins there."""
    cluster, newcomer = growing
    if not cluster.sharded:
        pytest.skip("without sharded channels nothing lingers")
    name = name_on(cluster, cluster.nodes[0], "lock:")
    async with clients(cluster) as (here, there):
        lock = here.lock(name, ttl=60.0, linger=60.0)
        fence = await linger(here, lock)
        await asyncio.to_thread(cluster.migrate, f"lock:{name}", newcomer)

        async def ended() -> bool:
            return here.linger_counts.misses > 0

        await eventually(ended, True, within=20)
        with fail_after(20):
            assert await use(there.lock(name, backoff=PATIENT)) > fence
        await linger(here, lock)
        with fail_after(15):
            await use(there.lock(name, backoff=PATIENT))
        assert here.linger_counts.recalls == 1
