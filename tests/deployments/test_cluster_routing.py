"""Locks on a cluster: each call goes where its slot is, and follows it."""

import asyncio
import random
import time
from asyncio.selector_events import _SelectorSocketTransport as Transport  # type: ignore[attr-defined]  # fmt: skip
from typing import Any

import pytest
from redis.asyncio import RedisCluster

from aiodistlock import AsyncLock, LockClient, StoreUnavailable
from aiodistlock.core.keys import LockKeys, fence_key
from aiodistlock.core.slots import slot_of
from aiodistlock.deployments.cluster import inboxes as shards
from aiodistlock.deployments.cluster.primary_pipe import PrimaryPipe
from aiodistlock.engines import shared_engines
from aiodistlock.testing.discovery import LOOPBACK
from aiodistlock.testing.embedded import EmbeddedRedis
from tests.deployments.cluster import Cluster
from tests.deployments.world import PATIENT, clients, granted, name_on, queued

SOON = 0.9
"""Seconds: some round trips on a busy machine, and less than the heartbeat of a connection."""


async def test_a_cluster_client_is_taken_uninitialised(
    cluster: Cluster, cluster_namespace: str
) -> None:
    """Names on all primaries are locked by its settings; the client itself stays unused."""
    redis = cluster.client()
    try:
        for node in cluster.primaries():
            name = name_on(cluster, node, cluster_namespace)
            async with AsyncLock(redis, name, namespace=cluster_namespace) as lease:
                held = node.command("GET", cluster_namespace + name)
                assert held == lease._process_lease.value
        assert not redis.nodes_manager.nodes_cache
    finally:
        await shared_engines(redis).aclose()
        await redis.aclose()


async def test_one_startup_node_is_enough(cluster: Cluster, cluster_namespace: str) -> None:
    """Also a replica; and user names for nodes need not be their addresses."""
    replica = next(node for node in cluster.nodes if node not in cluster.primaries())
    asked = []

    def remap(address: tuple[str, int]) -> tuple[str, int]:
        asked.append(address)
        return "localhost", address[1]

    redis = RedisCluster(host="localhost", port=replica.port, address_remap=remap, protocol=2)
    async with LockClient(redis) as locks:
        for node in cluster.primaries():
            name = name_on(cluster, node, cluster_namespace)
            async with locks.lock(name, namespace=cluster_namespace):
                pass
    assert asked


async def test_all_calls_of_a_burst_wait_for_the_first_view(
    cluster: Cluster, cluster_namespace: str
) -> None:
    """300 names at once by a client that knows nothing yet: no redirection, no failure."""
    async with clients(cluster, 1) as (locks,):

        async def use(number: int) -> None:
            async with locks.lock(f"n{number}", namespace=cluster_namespace):
                await asyncio.sleep(0)

        await asyncio.gather(*(use(number) for number in range(300)))


async def test_a_server_that_is_no_cluster_is_said_at_once(embedded_redis: EmbeddedRedis) -> None:
    """StoreUnavailable with the server's own words, not after half a minute."""
    url = embedded_redis.url.replace("redis://", "redis+cluster://")
    async with LockClient.from_url(url) as locks:
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="cluster support disabled"):
            await locks.lock("n").acquire()
        assert time.monotonic() - began < 10.0


async def test_a_waiter_is_woken_by_its_grant(cluster: Cluster, cluster_namespace: str) -> None:
    """Through the slot's own channel, on each primary, in round trips: nobody polls."""
    if not cluster.sharded:
        pytest.skip("no sharded channels before Redis 7: waiters poll")
    async with clients(cluster) as (here, there):
        for node in cluster.primaries():
            name = name_on(cluster, node, cluster_namespace)
            options: dict[str, Any] = {"namespace": cluster_namespace, "backoff": PATIENT}
            lease = await here.lock(name, **options).acquire()
            waiting = asyncio.create_task(granted(there.lock(name, **options)))
            await queued(cluster, here.lock(name, **options))
            released = time.monotonic()
            await lease.release()
            when, newer = await waiting
            assert when - released < SOON
            assert newer.fencing_token > lease.fencing_token
            await newer.release()


async def test_a_waiter_is_heard_again_after_its_connection_broke(
    cluster: Cluster, cluster_namespace: str
) -> None:
    """It asks again and subscribes anew, though it would never poll."""
    if not cluster.sharded:
        pytest.skip("no sharded channels before Redis 7: waiters poll")
    node = cluster.owner(f"{cluster_namespace}n")

    def subscribers() -> list[bytes]:
        return node.command("PUBSUB", "SHARDCHANNELS")  # type: ignore[no-any-return]  # a list

    async with clients(cluster) as (here, there):
        options: dict[str, Any] = {"namespace": cluster_namespace, "ttl": 20.0, "backoff": PATIENT}
        mine, theirs = (each.lock("n", **options) for each in (here, there))
        lease = await mine.acquire()
        waiting = asyncio.create_task(granted(theirs))
        await queued(cluster, mine)
        assert len(subscribers()) == 1
        for kind in ("normal", "pubsub"):
            node.command("CLIENT", "KILL", "TYPE", kind)
        assert subscribers() == []
        async with asyncio.timeout(10.0):
            while not await asyncio.to_thread(subscribers):
                await asyncio.sleep(0.005)
        await queued(cluster, mine)
        released = time.monotonic()
        await lease.release()
        when, newer = await waiting
        assert when - released < SOON
        await newer.release()


async def test_a_channel_is_subscribed_to_in_the_write_that_names_it(
    cluster: Cluster, cluster_namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that nothing can happen at the server between the two."""
    if not cluster.sharded:
        pytest.skip("no sharded channels before Redis 7: waiters poll")
    writes: list[bytes] = []
    write = Transport.write

    def note(self: Any, data: bytes) -> None:
        writes.append(data)
        write(self, data)

    monkeypatch.setattr(Transport, "write", note)
    async with clients(cluster) as (here, there):
        mine, theirs = (each.lock("n", namespace=cluster_namespace) for each in (here, there))
        lease = await mine.acquire()
        waiting = asyncio.create_task(theirs.acquire())
        await queued(cluster, mine)
        await lease.release()
        await (await waiting).release()
    (subscribing,) = [data for data in writes if b"SSUBSCRIBE" in data]
    assert subscribing.startswith(b"*2\r\n$10\r\nSSUBSCRIBE")
    assert b"EVALSHA" in subscribing


async def test_waiters_are_served_in_order(cluster: Cluster, cluster_namespace: str) -> None:
    """First come, first served, across processes."""
    if not cluster.sharded:
        pytest.skip("no sharded channels before Redis 7: waiters poll, in no order")
    async with clients(cluster, 5) as (first, *others):
        lock = first.lock("n", namespace=cluster_namespace)
        lease = await lock.acquire()
        order: list[int] = []

        async def wait(number: int, locks: LockClient) -> None:
            async with locks.lock("n", namespace=cluster_namespace, backoff=PATIENT):
                order.append(number)

        tasks = []
        for number, locks in enumerate(others):
            tasks.append(asyncio.create_task(wait(number, locks)))
            await queued(cluster, lock, number + 1)
        await lease.release()
        await asyncio.gather(*tasks)
        assert order == [0, 1, 2, 3]


async def test_subscriptions_are_bounded(
    cluster: Cluster, cluster_namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waited for many names does not go on listening for all of them."""
    if not cluster.sharded:
        pytest.skip("no sharded channels before Redis 7")
    monkeypatch.setattr(shards, "MAX_SLOTS", 8)

    def subscriptions() -> int:
        nodes = cluster.primaries()
        return sum(len(node.command("PUBSUB", "SHARDCHANNELS")) for node in nodes)

    async with clients(cluster) as (here, there):
        for number in range(30):
            options: dict[str, Any] = {"namespace": cluster_namespace, "backoff": PATIENT}
            mine, theirs = (each.lock(f"n{number}", **options) for each in (here, there))
            lease = await mine.acquire()
            waiting = asyncio.create_task(theirs.acquire())
            await queued(cluster, mine)
            await lease.release()
            await (await waiting).release()
        assert 1 <= await asyncio.to_thread(subscriptions) <= 8
        assert not await mine.locked()


async def test_who_never_waits_never_subscribes(cluster: Cluster, cluster_namespace: str) -> None:
    """An uncontended lock costs the servers no channel."""
    async with clients(cluster, 1) as (locks,):
        for number in range(20):
            async with locks.lock(f"n{number}", namespace=cluster_namespace):
                pass
        if cluster.sharded:
            nodes = cluster.primaries()
            assert [node.command("PUBSUB", "SHARDCHANNELS") for node in nodes] == [[], [], []]


async def test_a_slot_moves_while_its_lock_is_held_and_waited_for(
    cluster: Cluster, cluster_namespace: str
) -> None:
    """The lease goes on, the release follows the slot, and the waiter is granted there."""
    async with clients(cluster) as (here, there):
        key = f"{cluster_namespace}wallet"
        options: dict[str, Any] = {"namespace": cluster_namespace, "ttl": 20.0}
        mine, theirs = (each.lock("wallet", **options) for each in (here, there))
        lease = await mine.acquire()
        waiting = asyncio.create_task(granted(theirs))
        await queued(cluster, mine)
        for _ in range(2):
            (target, _) = cluster.others(key)
            await asyncio.to_thread(cluster.migrate, key, target)
            await lease.extend(20.0)
            lease.check()
            await queued(cluster, mine)
        assert not waiting.done()
        released = time.monotonic()
        await lease.release()
        when, newer = await waiting
        assert when - released < 4.0
        assert newer.fencing_token > lease.fencing_token
        await newer.release()


async def test_a_waiter_hears_that_its_slot_moved(cluster: Cluster, cluster_namespace: str) -> None:
    """It subscribes and queues anew at the other node, though it would never poll."""
    if not cluster.sharded:
        pytest.skip("no sharded channels before Redis 7: waiters poll")
    async with clients(cluster) as (here, there):
        key = f"{cluster_namespace}wallet"
        options: dict[str, Any] = {"namespace": cluster_namespace, "ttl": 20.0, "backoff": PATIENT}
        mine, theirs = (each.lock("wallet", **options) for each in (here, there))
        lease = await mine.acquire()
        waiting = asyncio.create_task(granted(theirs))
        await queued(cluster, mine)
        (target, _) = cluster.others(key)
        await asyncio.to_thread(cluster.migrate, key, target)
        async with asyncio.timeout(10.0):
            while not await asyncio.to_thread(target.command, "PUBSUB", "SHARDCHANNELS"):
                await asyncio.sleep(0.005)
        await queued(cluster, mine)
        released = time.monotonic()
        await lease.release()
        when, newer = await waiting
        assert when - released < SOON
        await newer.release()


async def test_a_subscription_that_goes_while_a_waiter_asks_is_made_anew(
    cluster: Cluster, cluster_namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The request under way is no reason not to ask again: it named a channel that is gone."""
    if not cluster.sharded:
        pytest.skip("no sharded channels before Redis 7: waiters poll")
    slot = slot_of(f"{cluster_namespace}n".encode())
    owner = cluster.owner(f"{cluster_namespace}n")
    flush, lost = PrimaryPipe._flush, asyncio.Event()

    def lose_then_flush(pipe: PrimaryPipe) -> None:
        if pipe._backlog.unsent and not lost.is_set():
            # A node that is told of its slot once more drops the slot's channels.
            owner.command("CLUSTER", "SETSLOT", slot, "NODE", owner.id)
            # Real time: that has to be heard before the request is sent.
            asyncio.get_running_loop().call_later(0.05, flush, pipe)
            lost.set()

    async with clients(cluster) as (here, there):
        options: dict[str, Any] = {"namespace": cluster_namespace, "ttl": 20.0, "backoff": PATIENT}
        mine, theirs = (each.lock("n", **options) for each in (here, there))
        lease = await mine.acquire()
        waiting = asyncio.create_task(granted(theirs))
        await queued(cluster, mine)
        monkeypatch.setattr(PrimaryPipe, "_flush", lose_then_flush)
        there._engine("n").on_listening()  # has it ask
        await lost.wait()
        monkeypatch.undo()
        async with asyncio.timeout(10.0):
            while not await asyncio.to_thread(owner.command, "PUBSUB", "SHARDCHANNELS"):
                await asyncio.sleep(0.005)
        await queued(cluster, mine)
        released = time.monotonic()
        await lease.release()
        when, newer = await waiting
        assert when - released < SOON
        await newer.release()


async def test_a_lock_whose_keys_have_all_gone_ahead_is_asked_for_there(
    cluster: Cluster, cluster_namespace: str
) -> None:
    """ASK: renewed, waited for and looked at where the keys are, before the slot is."""
    if not cluster.sharded:
        pytest.skip("without a queue not all keys are there, and the servers say TRYAGAIN")
    async with clients(cluster) as (here, there):
        key = f"{cluster_namespace}wallet"
        options: dict[str, Any] = {"namespace": cluster_namespace, "ttl": 20.0}
        mine, theirs = (each.lock("wallet", **options) for each in (here, there))
        lease = await mine.acquire()
        waiting = asyncio.create_task(granted(theirs))
        await queued(cluster, mine)
        (target, _) = cluster.others(key)

        def send_ahead() -> None:
            cluster.begin_migration(key, target)
            cluster.move_keys(key, target)
            target.command("SCRIPT", "FLUSH")

        await asyncio.to_thread(send_ahead)
        await lease.extend(20.0)
        info = await mine.inspect()
        assert info.holder == lease.token
        assert len(info.waiters) == 1
        await asyncio.to_thread(cluster.end_migration, key, target)
        await lease.release()
        _, newer = await waiting
        await newer.release()


async def test_a_slot_on_its_way_delays_but_leaves_nothing(
    cluster: Cluster, cluster_namespace: str
) -> None:
    """TRYAGAIN: what is released meanwhile is so at once, what is given up is so afterwards."""
    async with clients(cluster) as (here, there):
        key = f"{cluster_namespace}{{w}}"
        options: dict[str, Any] = {"namespace": cluster_namespace, "ttl": 60.0}
        released = await here.lock("{w}:released", **options).acquire()
        (target, _) = cluster.others(key)
        await asyncio.to_thread(cluster.begin_migration, key, target)
        await released.release()
        trying = asyncio.create_task(there.lock("{w}:given up", **options).acquire())
        # Real time: some tries are to be refused.
        await asyncio.sleep(0.3)
        trying.cancel()
        await asyncio.wait([trying])
        await asyncio.to_thread(cluster.move_keys, key, target)
        await asyncio.to_thread(cluster.end_migration, key, target)
        for name in ("released", "given up"):
            async with there.lock(f"{{w}}:{name}", timeout=10.0, **options):
                pass


@pytest.mark.parametrize("moved", [[], ["fence"], ["key"], ["queue"], ["key", "queue"]])
@pytest.mark.parametrize("waits", [False, True])
async def test_leases_outlast_the_way_of_their_slot(
    cluster: Cluster, cluster_namespace: str, moved: list[str], *, waits: bool
) -> None:
    """However long it takes, and whichever keys are where, leases are renewed and released."""
    async with clients(cluster) as (here, there):
        options: dict[str, Any] = {"namespace": cluster_namespace, "ttl": 1.0}
        mine, theirs = (each.lock("wallet", **options) for each in (here, there))
        lease = await mine.acquire()
        waiting = asyncio.create_task(theirs.acquire()) if waits else None
        if waits:
            await queued(cluster, mine)
        key = f"{cluster_namespace}wallet"
        (target, source) = (cluster.others(key)[0], cluster.owner(key))
        await asyncio.to_thread(cluster.begin_migration, key, target)
        keys = LockKeys("wallet", cluster_namespace)
        names = {"key": keys.key, "queue": keys.queue, "fence": fence_key(keys.slot)}
        for part in moved:
            source.command("MIGRATE", LOOPBACK, target.port, names[part], 0, 2000)
        # Real time: two ttls, six renewals.
        await asyncio.sleep(2.0)
        lease.check()
        await lease.extend(1.0)
        await lease.release()
        await asyncio.to_thread(cluster.move_keys, key, target)
        await asyncio.to_thread(cluster.end_migration, key, target)
        lease = await (waiting or theirs.acquire())
        await lease.release()


@pytest.mark.bounded(60)
async def test_no_request_is_overtaken_while_its_slot_moves(
    cluster: Cluster, cluster_namespace: str
) -> None:
    """Acquired, cancelled and released at random during moves: nothing is left behind."""
    rng = random.Random(7)
    key = f"{cluster_namespace}{{w}}"
    async with clients(cluster, 3) as made:
        over = False

        async def churn(locks: LockClient) -> None:
            while not over:
                name = f"{{w}}:{rng.randrange(6)}"
                # A ttl that outlasts the test: whatever is left would be found.
                lock = locks.lock(name, namespace=cluster_namespace, ttl=60.0)
                task = asyncio.create_task(lock.acquire())
                await asyncio.sleep(rng.random() * 0.004)
                task.cancel()
                await asyncio.wait([task])
                if not task.cancelled():
                    await task.result().release()

        users = [asyncio.create_task(churn(locks)) for locks in made for _ in range(4)]
        for _ in range(6):
            target = rng.choice(cluster.others(key))
            await asyncio.to_thread(cluster.migrate, key, target)
            # Real time: some cycles between two moves.
            await asyncio.sleep(0.1)
        over = True
        await asyncio.gather(*users)
        locks = [made[0].lock(f"{{w}}:{n}", namespace=cluster_namespace) for n in range(6)]
        until = time.monotonic() + 10.0
        while any([await lock.locked() for lock in locks]):
            assert time.monotonic() < until, cluster.keys(cluster_namespace)
            await asyncio.sleep(0.02)
