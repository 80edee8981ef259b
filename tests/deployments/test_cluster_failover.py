"""A primary dies or freezes while locks are held and waited for; another takes over."""

# ruff: noqa: PT012 - how a whole block ends is what is tested

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Iterator
from typing import Any

import pytest

from aiodistlock import LeaseLost
from tests.deployments.cluster import DETECTION, Cluster, Node
from tests.deployments.world import EAGER, PATIENT, clients, granted, name_on, queued

pytestmark = pytest.mark.bounded(60)

BUSY = 2.0
"""Seconds on top of what is promised, for a machine with other things to do."""


@pytest.fixture(params=["kill", "freeze"])
def harm(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[str]:
    """What happens to a primary; it comes back afterwards, as a replica."""
    yield request.param
    cluster.heal()


def strike(cluster: Cluster, node: Node, harm: str) -> float:
    """Let it happen; return when."""
    getattr(cluster, harm)(node)
    return time.monotonic()


class FencedLedger:
    """A resource that refuses tokens below the highest it has seen, as the design asks for."""

    def __init__(self) -> None:
        self._database = sqlite3.connect(":memory:")
        self._database.execute("CREATE TABLE ledger (value TEXT, fence INTEGER)")
        self._database.execute("INSERT INTO ledger VALUES ('', 0)")

    def write(self, value: str, fence: int) -> bool:
        """Write, unless a newer holder has written."""
        update = "UPDATE ledger SET value = ?, fence = ? WHERE fence <= ?"
        return self._database.execute(update, (value, fence, fence)).rowcount == 1

    @property
    def value(self) -> str:
        """What was written last."""
        (found,) = self._database.execute("SELECT value FROM ledger").fetchone()
        return str(found)

    def close(self) -> None:
        """Close the database."""
        self._database.close()


@pytest.fixture
def ledger() -> Iterator[FencedLedger]:
    """A resource of the test's own."""
    with contextlib.closing(FencedLedger()) as made:
        yield made


async def until_served(cluster: Cluster, key: str, former: Node) -> float:
    """Return when the other nodes agree on a new owner."""
    while await asyncio.to_thread(cluster.owner, key) is former:
        # Polls: gossip has no other way to tell.
        await asyncio.sleep(0.02)
    return time.monotonic()


async def test_a_lease_and_its_waiters_survive_a_failover(
    cluster: Cluster, cluster_namespace: str, harm: str
) -> None:
    """Within detection + 2 s the lease is confirmed, given up, and the next one granted."""
    node = cluster.primaries()[0]
    name = name_on(cluster, node, cluster_namespace)
    key = cluster_namespace + name
    async with clients(cluster) as (here, there):
        mine = here.lock(name, namespace=cluster_namespace, ttl=20.0)
        # It would not ask by itself: it must notice the takeover, and hear its grant.
        patient = PATIENT if cluster.sharded else EAGER
        theirs = there.lock(name, namespace=cluster_namespace, ttl=20.0, backoff=patient)
        lease = await mine.acquire()
        waiting = asyncio.create_task(granted(theirs))
        await queued(cluster, mine)
        # Replication is asynchronous: that it was in time is what this test is not about.
        await asyncio.to_thread(node.command, "WAIT", 1, 1000)
        struck = strike(cluster, node, harm)
        releasing = asyncio.create_task(lease.release())
        served = await until_served(cluster, key, node)
        when, newer = await waiting
        await releasing
        assert when - struck < DETECTION + 2.0 + BUSY
        assert when - served < 1.0 + BUSY
        assert newer.fencing_token > lease.fencing_token
        cluster.heal()
        await newer.extend(20.0)
        newer.check()
        await newer.release()
        async with mine as again:
            assert again.fencing_token > newer.fencing_token


def cut_replica(cluster: Cluster, node: Node) -> Node:
    """Keep from a primary's replica whatever is written from now on."""
    replica = next(each for each in cluster.nodes if each.command("ROLE")[2:3] == [node.port])
    cluster.freeze(replica)
    node.command("CLIENT", "KILL", "TYPE", "replica")
    return replica


async def test_a_lost_lease_is_found_at_the_takeover_and_its_stale_write_refused(
    cluster: Cluster, cluster_namespace: str, harm: str, ledger: FencedLedger
) -> None:
    """P2: a write that was not replicated makes two holders; the fencing token tells them apart."""
    node, other = cluster.primaries()[:2]
    name = name_on(cluster, node, cluster_namespace)
    key = cluster_namespace + name
    async with clients(cluster) as (here, there):
        # Renewed every 20 s: only a check at the takeover finds the loss in time.
        options: dict[str, Any] = {"namespace": cluster_namespace, "ttl": 60.0}
        kept = await here.lock(name_on(cluster, other, cluster_namespace), **options).acquire()
        await (await there.lock(name, **options).acquire()).release()
        replica = cut_replica(cluster, node)
        lease = await here.lock(name, on_lost="signal", **options).acquire()
        assert ledger.write("first", lease.fencing_token)
        strike(cluster, node, harm)
        replica.server.thaw()
        newer = await there.lock(name, backoff=EAGER, **options).acquire()
        served = await until_served(cluster, key, node)
        assert ledger.write("second", newer.fencing_token)
        assert not ledger.write("stale", lease.fencing_token)
        assert ledger.value == "second"
        assert await lease.wait_lost()
        assert time.monotonic() - served < 1.5 + BUSY
        with pytest.raises(LeaseLost):
            await lease.release()
        newer.check()
        kept.check()
        await newer.release()
        await kept.release()


async def test_a_lease_that_cannot_be_renewed_ends_before_the_next_begins(
    cluster: Cluster, cluster_namespace: str, harm: str
) -> None:
    """P1: with a ttl below the time of a failover the body is cancelled in time."""
    node = cluster.primaries()[0]
    name = name_on(cluster, node, cluster_namespace)
    async with clients(cluster) as (here, there):
        mine, theirs = (
            each.lock(name, namespace=cluster_namespace, ttl=1.0) for each in (here, there)
        )
        left_at = 0.0
        began = time.monotonic()
        with pytest.raises(LeaseLost) as caught:
            async with mine:
                waiting = asyncio.create_task(granted(theirs))
                await queued(cluster, mine)
                began = strike(cluster, node, harm)
                try:
                    await asyncio.sleep(30)
                finally:
                    left_at = time.monotonic()
        when, newer = await waiting
        assert left_at - began < 1.0 + BUSY
        assert left_at < when < began + DETECTION + 2.0 + BUSY
        assert newer.fencing_token > caught.value.fencing_token
        await newer.release()


async def test_nodes_that_are_well_go_on_as_before(
    cluster: Cluster, cluster_namespace: str, harm: str
) -> None:
    """A dead primary delays nobody whose names are elsewhere."""
    dead, well = cluster.primaries()[:2]
    name = name_on(cluster, well, cluster_namespace)
    async with clients(cluster) as (here, there):
        locks = [each.lock(name, namespace=cluster_namespace) for each in (here, there)]
        for lock in locks:
            await (await lock.acquire()).release()
        strike(cluster, dead, harm)
        longest = 0.0
        until = time.monotonic() + 0.6  # less than the other nodes need to notice
        while time.monotonic() < until:
            for lock in locks:
                began = time.monotonic()
                await (await lock.acquire()).release()
                longest = max(longest, time.monotonic() - began)
        assert longest < 0.9  # less than it takes to notice the dead one
