"""Locks behind Sentinel: failovers while a lock is held and waited for."""

import asyncio
import contextlib
import sqlite3
import time
from typing import Any

import pytest
import redis as redis_sync

from aiodistlock import AcquireTimeout, LeaseLost, LockClient
from aiodistlock.connection.inbox import Inbox
from aiodistlock.connection.pipe import Pipe
from aiodistlock.deployments.single.store import SingleStore
from aiodistlock.testing.embedded import EmbeddedRedis
from tests.deployments.sentinel import MASTER, SentinelDeployment
from tests.faults.world import EAGER, PATIENT, client, eventually

WITHIN = 2.0 + 1.5
"""
Seconds that the next grant may come after a sentinel has named the new master.

P3 promises the first two; the rest is for a machine with other things to do.
"""

pytestmark = pytest.mark.bounded(45)


async def _fail_over(deployment: SentinelDeployment, how: str) -> tuple[EmbeddedRedis, float]:
    """Kill or freeze the master; return it, and when the sentinels had another one."""
    former = deployment.master
    getattr(former, how)()
    return former, await deployment.failed_over(former)


def _port(locks: LockClient, ack: str = "local") -> int | None:
    """Return the port that a client's pipe is connected to."""
    pipe = locks._engine("n", ack).connection
    assert isinstance(pipe, Pipe)
    wire = pipe._wire
    transport: Any = None if wire is None else wire._transport
    return None if transport is None else int(transport.get_extra_info("peername")[1])


async def _turns(locks: LockClient, stop: asyncio.Event, grants: list[tuple[float, int]]) -> None:
    """Hold the lock again and again, and note when and with which fencing token."""
    lock = locks.lock("wallet:42", ttl=2.0, local_handoffs=0)
    while not stop.is_set():
        # Writes that the new master never saw are lost with the old one (P2).
        with contextlib.suppress(LeaseLost):
            async with lock.hold() as lease:
                grants.append((time.monotonic(), lease.fencing_token))
                await asyncio.sleep(0.005)  # a critical section


@pytest.mark.parametrize(("how", "protocol"), [("kill", 3), ("freeze", 2)])
async def test_waiters_go_on_at_the_new_master(
    sentinels: SentinelDeployment, how: str, protocol: int
) -> None:
    """The next grant comes soon, fencing tokens rise, a frozen sentinel delays nobody."""
    grants: list[tuple[float, int]] = []
    stop = asyncio.Event()
    sentinels.sentinels[0].freeze()  # the first that redis-py would ask
    async with (
        sentinels.locks(protocol=protocol) as one,
        sentinels.locks(protocol=protocol) as two,
    ):
        turns = [asyncio.create_task(_turns(each, stop, grants)) for each in (one, two)]

        async def grants_since(instant: float) -> bool:
            return len([at for at, _ in grants if at > instant]) >= 10

        await eventually(lambda: grants_since(0.0), True, within=5)
        former, over_at = await _fail_over(sentinels, how)
        await eventually(lambda: grants_since(over_at), True, within=WITHIN + 1)
        if how == "freeze":
            # As a replica, or before it knows that it is to be one: nobody follows it.
            former.thaw()
            thawed = time.monotonic()
            await eventually(lambda: grants_since(thawed), True)

            async def ports() -> set[int | None]:
                return {_port(one), _port(two)}

            await eventually(ports, {sentinels.master_port})
        stop.set()
        async with asyncio.timeout(5):
            await asyncio.gather(*turns)
        await _is_handed_over(one, two)
    assert min(at for at, _ in grants if at > over_at) - over_at < WITHIN
    fences = [fence for _, fence in grants]
    assert fences == sorted(set(fences))


async def test_a_planned_failover_bars_no_name_until_its_ttl(
    sentinels: SentinelDeployment,
) -> None:
    """Releases on the former master, which goes on for a while, are lost: they come again."""
    grants: dict[str, list[float]] = {f"n{number}": [] for number in range(20)}
    stop = asyncio.Event()

    async def turns(locks: LockClient, name: str) -> None:
        lock = locks.lock(name, ttl=30.0, local_handoffs=0, backoff=PATIENT)
        while not stop.is_set():
            with contextlib.suppress(LeaseLost):
                async with lock:
                    grants[name].append(time.monotonic())
                    await asyncio.sleep(0.001)  # a critical section

    async with sentinels.locks() as one, sentinels.locks() as two:

        async def missing(since: float) -> list[str]:
            return [name for name, at in grants.items() if max(at, default=0.0) <= since]

        async with asyncio.TaskGroup() as group:
            for name in grants:
                for locks in (one, two):
                    group.create_task(turns(locks, name))
            await eventually(lambda: missing(0.0), [], within=5)
            former = sentinels.master
            sentinels.ask(sentinels.sentinels[-1], "SENTINEL", "FAILOVER", MASTER)
            await sentinels.failed_over(former)

            async def moved() -> set[int | None]:
                return {_port(one), _port(two)}

            await eventually(moved, {sentinels.master_port}, within=5)
            over_at = time.monotonic()
            await eventually(lambda: missing(over_at), [], within=5)
            stop.set()


async def _is_handed_over(one: LockClient, two: LockClient) -> None:
    """Check that a grant is heard: under RESP2 the inbox must be at the new master, too."""
    lease = await one.lock("handed").acquire()
    waiting = asyncio.create_task(two.lock("handed", backoff=PATIENT).acquire(timeout=5))

    async def queued() -> int:
        return len((await one.lock("handed").inspect()).waiters)

    await eventually(queued, 1)
    await lease.release()
    async with asyncio.timeout(0.9):  # less than until the next look at the sentinels
        await (await waiting).release()


async def test_an_idle_client_leaves_a_frozen_master_before_it_comes_back(
    sentinels: SentinelDeployment,
) -> None:
    """A former master that thaws could grant what nobody else knows: nobody asks it."""
    async with LockClient.from_url(sentinels.url) as locks:
        async with locks.lock("n"):
            pass
        former, _ = await _fail_over(sentinels, "freeze")

        async def port() -> int | None:
            return _port(locks)

        await eventually(port, None, within=WITHIN)  # nothing to do: it stays away
        former.thaw()
        async with locks.lock("n", namespace="later:"):
            assert _port(locks) == sentinels.master_port
            assert sentinels.ask(sentinels.master, "EXISTS", "later:n") == 1
            assert sentinels.ask(former, "EXISTS", "later:n") == 0


@pytest.mark.parametrize("ack", ["local", "replicas:1"])
async def test_a_frozen_master_is_left_before_another_can_be_named(
    sentinels: SentinelDeployment, ack: str
) -> None:
    """
    Whatever it answers to what it got before is not heard when it thaws.

    It runs its backlog before it learns that it is a replica: min-replicas does not help.
    """
    former = sentinels.master
    for sentinel in sentinels.sentinels:
        sentinels.ask(sentinel, "SENTINEL", "SET", "mymaster", "quorum", "9")  # no failover
    async with sentinels.locks() as locks:
        lock = locks.lock("n", ttl=30.0, ack=ack)
        async with lock:
            pass
        port = _port(locks, ack)
        former.freeze()
        asking = asyncio.create_task(lock.acquire())
        began = time.monotonic()
        while _port(locks, ack) is not None:
            await asyncio.sleep(0.01)
        assert port == former.port
        assert time.monotonic() - began < 3.5  # elsewhere silence is found after 5 s
        former.thaw()
        await (await asking).release()


async def test_min_replicas_keeps_a_former_master_from_granting(
    sentinels: SentinelDeployment,
) -> None:
    """NOREPLICAS passes: nobody fails, nobody is granted, until the server can write again."""
    for server in sentinels.servers:
        sentinels.ask(server, "CONFIG", "SET", "min-replicas-to-write", "1")
        sentinels.ask(server, "CONFIG", "SET", "min-replicas-max-lag", "1")
    former = sentinels.master
    async with client(former.url) as pinned, sentinels.locks() as other:
        held = await pinned.lock("held", ttl=3.0).acquire()
        former.freeze()
        await sentinels.failed_over(former)
        lease = await other.lock("n", ttl=30.0).acquire(timeout=WITHIN)
        former.thaw()

        async def cut_off() -> int:
            with redis_sync.from_url(former.url) as redis:
                return int(redis.info("replication")["connected_slaves"])

        await eventually(cut_off, 0)
        lock = pinned.lock("n", backoff=EAGER)
        until = time.monotonic() + 1
        while time.monotonic() < until:
            with pytest.raises(AcquireTimeout):
                await lock.acquire(timeout=0.2)
        assert await held.wait_lost()
        assert lease.is_held
        await lease.release()


async def test_a_refusal_by_a_replica_makes_the_client_ask_the_sentinels(
    sentinels: SentinelDeployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """READONLY fails nobody: calls go to the new master, in order; so does the inbox."""
    monkeypatch.setattr("aiodistlock.deployments.sentinel.sentinels.Sentinels.look_every", 60.0)
    former, promoted = sentinels.master, sentinels.replicas[0]
    async with sentinels.locks(protocol=2) as locks, sentinels.locks(protocol=2) as other:
        await _is_handed_over(locks, other)
        lease = await locks.lock("held", ttl=10).acquire()
        fence = lease.fencing_token
        sentinels.ask(former, "WAIT", "2", "1000")
        sentinels.appoint(promoted, former)
        began = time.monotonic()
        again = asyncio.create_task(locks.lock("held").acquire(timeout=WITHIN))
        await asyncio.sleep(0)  # it waits behind us
        await lease.release()
        second = await again
        assert second.fencing_token > fence
        await second.release()
        assert time.monotonic() - began < WITHIN
        await _is_handed_over(locks, other)
        assert _port(locks) == promoted.port


@pytest.mark.parametrize("forbidden", [False, True])
async def test_a_replica_that_is_still_named_is_not_stormed(
    sentinels: SentinelDeployment, forbidden: bool
) -> None:
    """Nothing is asked of it if it may say its role; either way at growing pauses."""
    former = sentinels.master
    async with sentinels.locks() as locks:
        async with locks.lock("n"):
            pass
        for sentinel in sentinels.sentinels:
            # They neither fail over nor set it right meanwhile.
            sentinels.ask(sentinel, "SENTINEL", "SET", "mymaster", "quorum", "9")
            sentinels.ask(
                sentinel, "SENTINEL", "SET", "mymaster", "down-after-milliseconds", "60000"
            )
        sentinels.ask(former, "REPLICAOF", "127.0.0.1", str(sentinels.replicas[0].port))

        if forbidden:
            sentinels.ask(former, "ACL", "SETUSER", "default", "-role")

        def asked() -> tuple[int, int]:
            with redis_sync.from_url(former.url) as redis:
                connections = redis.info("stats")["total_connections_received"]
                calls = redis.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"]
                return int(connections), int(calls)

        before = asked()
        with pytest.raises(AcquireTimeout):
            await locks.lock("n").acquire(timeout=1.0)
        connections, calls = (new - old for new, old in zip(asked(), before, strict=True))
        assert 2 <= connections <= 25  # one pause of 20 ms would make 50
        assert calls <= 1 or forbidden  # the one that it refused


async def test_an_acknowledged_lease_survives_the_failover(
    sentinels: SentinelDeployment,
) -> None:
    """Held with ack="replicas:1" it stays held; nobody gets in; it is renewed at once."""
    async with sentinels.locks() as one, sentinels.locks() as two:
        lease = await one.lock("n", ttl=30.0, ack="replicas:1").acquire()
        deadline = lease._process_lease.deadline
        fence = lease.fencing_token
        other = two.lock("n", ttl=30.0)
        waiting = asyncio.create_task(other.acquire(timeout=30))
        _, over_at = await _fail_over(sentinels, "kill")

        # Not by a renewal of its own: that comes after a third of the ttl.
        async def renewed() -> bool:
            return lease._process_lease.deadline > deadline

        await eventually(renewed, True, within=WITHIN)
        assert time.monotonic() - over_at < WITHIN
        assert lease.is_held
        assert sentinels.ask(sentinels.master, "GET", "lock:n") == lease._process_lease.value
        assert await other.try_acquire() is None

        async def queued() -> int:
            return len((await other.inspect()).waiters)

        await eventually(queued, 1, within=WITHIN)
        await lease.release()
        async with asyncio.timeout(5):
            second = await waiting
        assert second.fencing_token > fence
        await second.release()


async def test_writes_that_are_lost_make_two_holders_and_no_stale_write(
    sentinels: SentinelDeployment,
) -> None:
    """P2: a promoted replica knows nothing of the lease; the fencing token protects."""
    former = sentinels.master
    async with (
        client(former.url) as cut_off,  # sees the old master only
        sentinels.locks() as following,
        sentinels.locks() as other,
    ):
        for locks in (following, other):
            assert not await locks.lock("n").locked()
        replicas = sentinels.replicas
        for replica in replicas:
            replica.freeze()
        sentinels.ask(former, "CLIENT", "KILL", "TYPE", "replica")
        stale = await cut_off.lock("n", ttl=30.0).acquire()
        followed = await following.lock("m", ttl=30.0).acquire()
        by_hand = await following.lock("o", ttl=30.0, auto_renew=False).acquire()
        former.freeze()
        for replica in replicas:
            replica.thaw()
        over_at = await sentinels.failed_over(former)
        fresh = await other.lock("n", ttl=30.0).acquire(timeout=WITHIN)
        assert time.monotonic() - over_at < WITHIN
        assert stale.is_held
        assert fresh.is_held  # two holders
        # Whoever follows the sentinels learns of it at once, not after a third of the ttl.
        async with asyncio.timeout(WITHIN):
            assert await followed.wait_lost()
            assert await by_hand.wait_lost()
        assert fresh.fencing_token > stale.fencing_token
        with contextlib.closing(sqlite3.connect(":memory:")) as store:
            store.execute("CREATE TABLE wallet (amount INTEGER, fence INTEGER)")
            store.execute("INSERT INTO wallet VALUES (0, 0)")
            assert _write(store, 1, fresh.fencing_token)
            assert not _write(store, 2, stale.fencing_token)
            assert store.execute("SELECT amount FROM wallet").fetchone() == (1,)
        former.thaw()


def _write(store: sqlite3.Connection, amount: int, fence: int) -> bool:
    """Write unless the store has seen a higher fencing token."""
    update = "UPDATE wallet SET amount = ?, fence = ? WHERE fence <= ?"
    return store.execute(update, (amount, fence, fence)).rowcount == 1


async def test_what_a_former_server_said_of_its_clock_is_forgotten(
    embedded_redis: EmbeddedRedis,
) -> None:
    """A deadline mapped by another server's clock could be late (rule 6.1)."""
    async with client(embedded_redis.url) as locks, client(embedded_redis.url) as other:
        _lease = await other.lock("n").acquire()
        store = locks._engine("n").store
        assert isinstance(store, SingleStore)
        inbox = store._inboxes
        assert isinstance(inbox, Inbox)

        async def maps_the_clock() -> bool:
            return inbox.server_clock.earliest(0) is not None

        waiting = asyncio.create_task(locks.lock("n").acquire())
        await eventually(maps_the_clock, True)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        embedded_redis.kill()
        embedded_redis.restart()
        assert not await locks.lock("n").locked()
        assert inbox.server_clock.earliest(0) is None
