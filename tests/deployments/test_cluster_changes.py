"""A cluster changes while locks are held and waited for: members, names, passwords."""

import asyncio
import os
import time
from typing import Any

import pytest

from aiodistlock import AcquireTimeout, LockClient, LockError
from aiodistlock.deployments.cluster.connection import ClusterConnection
from aiodistlock.deployments.cluster.primary_pipes import PrimaryPipes
from aiodistlock.testing.discovery import LOOPBACK
from tests.deployments.cluster import Cluster, Node
from tests.deployments.world import EAGER, PATIENT, clients, granted, name_on, queued

pytestmark = pytest.mark.bounded(60)


async def test_a_primary_comes_and_goes(growing: tuple[Cluster, Node]) -> None:
    """Leases and waiters follow their slot to a new primary and back; then it may be gone."""
    cluster, newcomer = growing
    home = cluster.nodes[0]
    name = name_on(cluster, home, "lock:")
    # All that this one was told of is the node that will have left.
    url = f"redis+cluster://{LOOPBACK}:{newcomer.port}"
    backoff = PATIENT if cluster.sharded else EAGER
    async with LockClient.from_url(url) as here, LockClient.from_url(url) as there:
        mine, theirs = (each.lock(name, ttl=20.0, backoff=backoff) for each in (here, there))
        lease = await mine.acquire()
        waiting = asyncio.create_task(granted(theirs))
        await queued(cluster, mine)
        for target in (newcomer, home):
            await asyncio.to_thread(cluster.migrate, f"lock:{name}", target)
            await lease.extend(20.0)
            await queued(cluster, mine)
        await asyncio.to_thread(cluster.remove_node, newcomer)
        await lease.extend(20.0)
        released = time.monotonic()
        await lease.release()
        when, newer = await waiting
        assert when - released < 3.0  # far sooner than its poll; the machine may be busy
        await newer.release()
        # Nor is it missed by names that nobody has asked for yet.
        for node in cluster.nodes:
            async with mine, here.lock(name_on(cluster, node, "lock:x"), namespace="lock:x"):
                pass


async def test_a_contended_lock_waits_for_its_slot_and_goes_on_as_it_arrives(
    growing: tuple[Cluster, Node],
) -> None:
    """Who queues gets it meanwhile; who asks meanwhile gets no error, and no pause behind it."""
    cluster, newcomer = growing
    if not cluster.sharded:
        pytest.skip("no sharded channels before Redis 7: nobody queues")
    name = name_on(cluster, cluster.nodes[0], "lock:")
    async with clients(cluster, 3) as made:
        mine, second, third = (each.lock(name, ttl=20.0) for each in made)
        lease = await mine.acquire()
        queueing = asyncio.create_task(second.acquire())
        await queued(cluster, mine)
        await asyncio.to_thread(cluster.begin_migration, f"lock:{name}", newcomer)
        asking = asyncio.create_task(granted(third))
        # Real time: it is refused until its pauses are as long as they get.
        await asyncio.sleep(2.0)
        await lease.release()
        await (await queueing).release()
        assert not asking.done()
        await asyncio.to_thread(cluster.move_keys, f"lock:{name}", newcomer)
        await asyncio.to_thread(cluster.end_migration, f"lock:{name}", newcomer)
        arrived = time.monotonic()
        when, newer = await asking
        assert when - arrived < 2.0  # a pause of 1 s at most; the machine may be busy
        await newer.release()


async def test_permits_are_renewed_and_given_back_while_their_slot_is_on_its_way(
    growing: tuple[Cluster, Node],
) -> None:
    """Whoever waits has them when the slot has arrived."""
    cluster, newcomer = growing
    name = name_on(cluster, cluster.nodes[0], "lock:")
    async with clients(cluster, 2) as made:
        mine, theirs = (each.semaphore(name, 2, ttl=20.0, backoff=EAGER) for each in made)
        lease, other = await mine.acquire(), await mine.acquire()
        waiting = asyncio.create_task(theirs.acquire(permits=2))
        while cluster.sharded and not (await mine.inspect()).waiters:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(cluster.begin_migration, f"lock:{name}", newcomer)
        await lease.extend(20.0)
        await lease.release()
        await asyncio.to_thread(cluster.move_keys, f"lock:{name}", newcomer)
        await other.extend(20.0)
        await asyncio.to_thread(cluster.end_migration, f"lock:{name}", newcomer)
        await other.extend(20.0)
        await other.release()
        async with asyncio.timeout(30):
            await (await waiting).release()


def pipes(locks: LockClient) -> PrimaryPipes:
    """Return the pipes of a client."""
    connection = locks._engine("*").connection
    assert isinstance(connection, ClusterConnection)
    return connection._pipes


async def test_nodes_get_other_names(cluster: Cluster, cluster_namespace: str) -> None:
    """All at once other addresses: leases go on, and waiters are heard over new connections."""
    if not cluster.sharded:
        pytest.skip("before Redis 7 nodes have no host names")

    def announce(hostname: str, endpoint: str) -> None:
        for node in cluster.nodes:
            node.command("CONFIG", "SET", "cluster-announce-hostname", hostname)
            node.command("CONFIG", "SET", "cluster-preferred-endpoint-type", endpoint)
        seen = hostname.encode() or LOOPBACK.encode()
        while any(
            entry[0] != seen
            for node in cluster.nodes
            for _, _, *entries in node.command("CLUSTER", "SLOTS")
            for entry in entries
        ):
            # Polls: gossip has no other way to tell that it is over.
            time.sleep(0.02)

    key = f"{cluster_namespace}wallet"
    options: dict[str, Any] = {"namespace": cluster_namespace, "ttl": 20.0, "backoff": PATIENT}
    try:
        async with clients(cluster) as (here, there):
            mine, theirs = (each.lock("wallet", **options) for each in (here, there))
            lease = await mine.acquire()
            waiting = asyncio.create_task(granted(theirs))
            await queued(cluster, mine)
            await asyncio.to_thread(announce, "localhost", "hostname")
            (target, _) = cluster.others(key)
            await asyncio.to_thread(cluster.migrate, key, target)
            await lease.extend(20.0)
            await queued(cluster, mine)
            released = time.monotonic()
            await lease.release()
            when, newer = await waiting
            assert when - released < 3.0  # far sooner than its poll; the machine may be busy
            await newer.release()
            while {pipe.address.host for pipe in pipes(here)} != {"localhost"}:
                await asyncio.sleep(0.02)  # the next view closes the last of the former ones
    finally:
        announce("", "ip")


async def test_a_password_that_was_changed_is_told_and_may_be_changed_back(
    cluster: Cluster, cluster_namespace: str
) -> None:
    """What is held lasts as long as the connection; without one a timeout says why."""

    def set_password(password: str) -> None:
        for node in cluster.nodes:
            rights = ["resetpass", f">{password}", "on", "~*", "&*", "+@all"]
            node.command("ACL", "SETUSER", "locks", "reset", *rights)

    def disconnect() -> None:
        for node in cluster.nodes:
            node.command("CLIENT", "KILL", "USER", "locks")

    set_password("first")
    try:
        async with clients(cluster, 1, username="locks", password="first") as (locks,):
            lock = locks.lock("n", namespace=cluster_namespace, ttl=20.0)
            async with lock:
                await asyncio.to_thread(set_password, "second")
            await asyncio.to_thread(disconnect)
            with pytest.raises(AcquireTimeout, match="invalid username") as caught:
                await lock.acquire(timeout=1.0)
            assert "invalid username" in str(caught.value.__cause__)
            await asyncio.to_thread(set_password, "first")
            async with lock:
                pass
    finally:
        for node in cluster.nodes:
            node.command("ACL", "DELUSER", "locks")


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
async def test_a_child_process_does_not_use_the_parents_connections(
    cluster: Cluster, cluster_namespace: str
) -> None:
    """It is told to make a client of its own, whatever it submits goes nowhere."""
    async with clients(cluster, 1) as (locks,):
        names = [name_on(cluster, node, cluster_namespace) for node in cluster.primaries()]
        made = [locks.lock(name, namespace=cluster_namespace, ttl=20.0) for name in names]
        leases = [await lock.acquire() for lock in made]
        inherited = pipes(locks)
        child = os.fork()
        if child == 0:
            problems = 0
            try:
                for name, lease in zip(names, leases, strict=True):
                    try:
                        locks._engine(name)
                        problems += 1
                    except LockError:
                        pass
                    problems += lease.is_held
                    lease._give_back()  # as a careless block's end would
                for pipe in inherited:
                    # What the copied loop would still do, should anybody run it.
                    pipe._flush()
                    problems += pipe._wire is not None
            except BaseException:  # noqa: BLE001  # nothing of the test may run on in here
                problems += 1
            os._exit(problems)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0  # noqa: ASYNC222  # it ends at once
        for lease in leases:
            await lease.extend(20.0)
            await lease.release()


async def test_a_client_closes_in_time_though_a_node_is_gone(
    cluster: Cluster, cluster_namespace: str
) -> None:
    """What is held elsewhere is released; for the rest nobody waits."""
    gone, well = cluster.primaries()[:2]
    names = [name_on(cluster, node, cluster_namespace) for node in (gone, well)]
    locks = LockClient.from_url(cluster.url)
    # The first one expires by itself.
    leases = [
        await locks.lock(name, namespace=cluster_namespace, ttl=ttl).acquire()
        for name, ttl in zip(names, (3.0, 30.0), strict=True)
    ]
    cluster.freeze(gone)
    began = time.monotonic()
    await locks.aclose()
    assert time.monotonic() - began < 5.0
    assert not any(lease.is_held for lease in leases)
    async with clients(cluster, 1) as (other,):
        assert await other.lock(names[1], namespace=cluster_namespace).try_acquire() is not None
        await other.aclose()
    cluster.heal()
    async with (
        clients(cluster, 1) as (other,),
        other.lock(names[0], namespace=cluster_namespace, timeout=10.0),
    ):
        pass
