"""Processes of edition 2 of the wire and of today side by side, on one Redis and one Cluster.

What an edition promises is in docs/wire.md.  A process of an earlier one is its kept scripts,
called as its client did; one of today is a client as users have it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import redis.asyncio as redis_asyncio
from anyio import fail_after

from aiodistlock import AsyncLock, Backoff, Lease, LeaseLost, LockClient
from aiodistlock.testing.discovery import LOOPBACK
from aiodistlock.testing.embedded import EmbeddedRedis
from aiodistlock.waiting.pauses import MAX_PAUSE
from tests.deployments.cluster import Cluster
from tests.deployments.editions.edition_2 import (
    DONE,
    GRANTED,
    HASH_TAG,
    HELD,
    OF_SLOT,
    OTHER,
    QUEUED,
    Process,
)
from tests.deployments.sentinel import SentinelDeployment
from tests.deployments.world import PATIENT
from tests.faults.world import eventually

pytestmark = pytest.mark.bounded(60)

TTL = 40.0  # nobody who misses a grant has the lock in time by waiting for its end


WOKEN = 0.6 * MAX_PAUSE
"""Seconds within which a message wakes a waiter, and the end of its pause does not."""


class World:
    """
    Makes processes of both editions on one server.

    :param url: where today's clients find it
    :param server: the URL of the very server
    :param namespace: in front of all names
    :param protocol: which RESP all speak
    """

    def __init__(
        self, url: str, server: str, namespace: str, protocol: int, *, sharded: bool = False
    ) -> None:
        self.url, self.server = url, server
        self.namespace, self.protocol = namespace, protocol
        self.sharded = sharded
        self.stack = AsyncExitStack()
        self._olds = 0
        # On one Redis most names have no hash tag.
        self.name = f"{HASH_TAG}n" if sharded else "n"
        self.key = self.namespace + self.name

    async def old(self) -> Process:
        """Start a process of edition 2."""
        redis = redis_asyncio.from_url(self.server, protocol=self.protocol)
        await self.stack.enter_async_context(redis)
        of_slot = OF_SLOT if self.sharded else ""
        self._olds += 1
        process = Process(redis, self._olds, of_slot=of_slot, sharded=self.sharded)
        return await self.stack.enter_async_context(process)

    async def today(self, **options: Any) -> LockClient:
        """Start a process of today."""
        client = LockClient.from_url(self.url, protocol=self.protocol, **options)
        return await self.stack.enter_async_context(client)

    def lock(self, client: LockClient, name: str = "", backoff: Backoff = PATIENT) -> AsyncLock:
        """Build a lock of a process of today: only a message wakes it."""
        options: dict[str, Any] = {"ttl": TTL, "namespace": self.namespace, "backoff": backoff}
        return client.lock(name or self.name, **options)

    async def in_queue(self, count: int) -> None:
        """Wait until so many wait."""

        async def waiting() -> int:
            async with redis_asyncio.from_url(self.server) as redis:
                return int(await redis.zcard(Process.queue(self.key)))

        await eventually(waiting, count, within=10)

    async def waits(self, client: LockClient, behind: int) -> asyncio.Task[Lease]:
        """Have a process of today wait behind so many."""
        task = asyncio.create_task(self.lock(client).acquire())
        await self.in_queue(behind + 1)
        return task


@pytest.fixture(params=["resp2", "resp3", "cluster"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """One Redis by both protocols, and the slot of a Cluster."""
    if request.param == "cluster":
        cluster: Cluster = request.getfixturevalue("cluster")
        if not cluster.sharded:
            pytest.skip("without sharded channels waiters poll")
        namespace = request.getfixturevalue("cluster_namespace")
        server = f"redis://{LOOPBACK}:{cluster.owner(HASH_TAG).port}"
        world = World(cluster.url, server, namespace, 3, sharded=True)
    else:
        url = request.getfixturevalue("redis_url")
        world = World(url, url, request.getfixturevalue("namespace"), int(request.param[-1]))
    async with world.stack:
        yield world


async def test_each_sees_the_other_and_stays_out(world: World) -> None:
    """Who holds, its fencing token and who waits are told alike; fencing tokens rise."""
    old, new = await world.old(), await world.today()
    lock, fence = world.lock(new), 0
    for _ in range(2):
        lease = await lock.acquire()
        assert lease.fencing_token > fence
        value = f"{lease.token} {lease.fencing_token}"
        held, _, remaining, holder = await old.acquire(world.key, old.token(), waits=False)
        assert (held, holder) == (HELD, value)
        assert 0 < remaining <= TTL * 1000
        done, _, holder, _, waiters = await old.inspect(world.key)
        assert (done, holder, waiters) == (DONE, value, [])
        assert (await old.renew(world.key, f"{old.token()} 1"))[0] == OTHER
        await lease.release()

        token = old.token()
        granted, _, fence, _ = await old.acquire(world.key, token)
        assert granted == GRANTED
        assert fence > lease.fencing_token
        assert await lock.try_acquire() is None
        status = await lock.inspect()
        assert (status.holder, status.fencing_token, status.waiters) == (token, fence, ())
        # An answer that was lost: it is asked once more.
        assert (await old.acquire(world.key, token))[:3:2] == [GRANTED, fence]
        assert (await old.renew(world.key, f"{token} {fence}"))[0] == DONE
        assert (await old.release(world.key, f"{token} {fence}"))[0] == DONE


async def test_a_release_reaches_the_next_of_either_edition(world: World) -> None:
    """First come, first served, by message: old, new, old, new behind a new one."""
    olds = [await world.old() for _ in range(2)]
    holder, *news = [await world.today() for _ in range(3)]
    lease = await world.lock(holder).acquire()
    fences = [lease.fencing_token]
    tokens, tasks = [each.token() for each in olds], []
    for number, (old, token, new) in enumerate(zip(olds, tokens, news, strict=True)):
        queued, *_, position = await old.acquire(world.key, token)
        assert (queued, position) == (QUEUED, 2 * number)
        tasks.append(await world.waits(new, 2 * number + 1))
    waiters = (await world.lock(holder).inspect()).waiters
    assert waiters[::2] == tuple(tokens)

    await lease.release()
    for old, token, task in zip(olds, tokens, tasks, strict=True):
        fence = await old.granted(world.key, token)
        fences.append(fence)
        value = f"{token} {fence}"
        assert (await old.renew(world.key, value))[0] == DONE
        assert not task.done()
        assert (await old.release(world.key, value))[2] == 1
        with fail_after(WOKEN):
            lease = await task
        fences.append(lease.fencing_token)
        await lease.extend(TTL)
        await lease.release()
    assert fences == sorted(set(fences))


async def test_who_sends_no_recall_waits_for_the_end_of_a_lease_that_lingers(
    world: World,
) -> None:
    """It is told as by any release; and its own lease is recalled by nobody."""
    old, new = await world.old(), await world.today()
    lock = new.lock(world.name, ttl=TTL, namespace=world.namespace, backoff=PATIENT, linger=0.5)
    with fail_after(20):
        while new.linger_counts.hits == 0:
            async with lock as lease:
                fence = lease.fencing_token
    token = old.token()
    queued, _, _, holder, *_ = await old.acquire(world.key, token)
    assert (queued, holder.split(" ")[0]) == (QUEUED, lease.token)
    granted = await old.granted(world.key, token)
    assert granted > fence
    assert new.linger_counts == (1, 1, 0)
    waiting = await world.waits(new, 0)
    # What old.granted would read next is no message of an edition that it does not know.
    assert (await old.release(world.key, f"{token} {granted}"))[2] == 1
    with fail_after(WOKEN):
        await (await waiting).release()


async def test_a_lock_is_passed_on_and_comes_back(world: World) -> None:
    """By either to the other, who stands behind it in the queue afterwards."""
    old, new = await world.old(), await world.today(handoff_span=0.0)
    lock = world.lock(new)
    first = await lock.acquire()
    second = asyncio.create_task(lock.acquire())
    await asyncio.sleep(0)  # it stands behind us, in this process
    token = old.token()
    assert (await old.acquire(world.key, token))[0] == QUEUED
    await first.release()  # passes it on, and queues again for the second
    fence = await old.granted(world.key, token)
    assert fence > first.fencing_token
    await world.in_queue(1)

    next_token = old.token()
    queued, *_, position = await old.pass_on(world.key, token, next_token)
    assert (queued, position) == (QUEUED, 0)
    with fail_after(WOKEN):
        back = await second
    assert back.fencing_token > fence
    await back.release()
    again = await old.granted(world.key, next_token)
    assert again > back.fencing_token
    # Nobody waits: kept.
    kept, _, fence, _ = await old.pass_on(world.key, next_token, old.token())
    assert kept == DONE
    assert fence > again
    assert (await old.release(world.key, f"{next_token} {fence}"))[0] == DONE


async def test_hand_offs_in_memory_that_were_reported_count_for_the_other(world: World) -> None:
    """Whatever one of them has used, the next of the other is above it."""
    old, new = await world.old(), await world.today(handoff_span=10.0)
    lock = world.lock(new)
    tasks = [asyncio.create_task(lock.acquire()) for _ in range(5)]
    fence = 0
    for task in tasks:
        lease = await task
        fence = lease.fencing_token
        await lease.release()
    token = old.token()
    _, _, issued, _ = await old.acquire(world.key, token)
    assert issued > fence
    used = issued + 900
    assert (await old.release(world.key, f"{token} {issued}", used))[0] == DONE
    async with lock as after:
        assert after.fencing_token > used


async def test_who_leaves_is_nobodys_next(world: World) -> None:
    """One that waits and one that was granted the lock meanwhile, of either edition."""
    one, two = await world.old(), await world.old()
    here, there = await world.today(), await world.today()
    first, second, third = one.token(), two.token(), two.token()
    _, _, fence, _ = await one.acquire(world.key, first)
    leaving = await world.waits(here, 0)
    assert (await two.acquire(world.key, second))[0] == QUEUED
    leaving.cancel()
    await world.in_queue(1)
    assert (await one.release(world.key, f"{first} {fence}"))[2] == 1
    await two.granted(world.key, second)

    first = one.token()
    assert (await one.acquire(world.key, first))[0] == QUEUED
    waiting = await world.waits(there, 1)
    # Granted and gone at once: it hands on.
    assert (await two.abandon(world.key, second))[0] == DONE
    await one.granted(world.key, first)
    assert (await two.acquire(world.key, third))[0] == QUEUED
    assert (await two.abandon(world.key, third))[0] == DONE
    await world.in_queue(1)
    assert (await one.abandon(world.key, first))[0] == DONE
    with fail_after(WOKEN):
        lease = await waiting
    await lease.release()


async def test_who_asks_while_it_is_free_drives_the_queue_of_both(world: World) -> None:
    """The holder died: whichever asks first serves the first, of either edition."""
    old, new, holder = await world.old(), await world.today(), await world.today()
    doomed = await old.acquire(world.key, old.token())
    assert doomed[0] == GRANTED
    waiting = await world.waits(new, 0)
    token = old.token()
    assert (await old.acquire(world.key, token))[0] == QUEUED
    await old.redis.delete(world.key)
    code, _, _, served, _, position = await old.acquire(world.key, token)
    assert (code, position) == (QUEUED, 0)
    with fail_after(WOKEN):
        lease = await waiting
    assert served.split(" ")[0] == lease.token

    eager = Backoff(initial=0.05, factor=1.0, cap=0.05)
    later = asyncio.create_task(world.lock(holder, backoff=eager).acquire())
    await world.in_queue(2)
    await old.redis.delete(world.key)
    fence = await old.granted(world.key, token)
    assert fence > lease.fencing_token
    assert (await old.release(world.key, f"{token} {fence}"))[2] == 1
    with fail_after(WOKEN):
        await (await later).release()


async def test_an_operator_takes_it_from_the_other(world: World) -> None:
    """Who lost it hears so, and the next fencing token is above all that it may have used."""
    old, new = await world.old(), await world.today()
    lease = await world.lock(new).acquire()
    token = old.token()
    assert (await old.acquire(world.key, token))[0] == QUEUED
    done, _, fence, served = await old.force_release(world.key, lease.token)
    assert (done, served) == (DONE, token)
    assert fence > lease.fencing_token + 1000
    with pytest.raises(LeaseLost):
        await lease.extend(TTL)
    assert await old.granted(world.key, token) == fence
    assert (await old.release(world.key, f"{token} {fence}"))[0] == DONE


async def test_who_knows_nothing_of_readers_keeps_them_out_and_hands_over_to_them(
    world: World,
) -> None:
    """It waits for a group as for any holder; a reader that it hands the lock has it alone."""
    old, one, other = await world.old(), await world.today(), await world.today()
    sides = [
        each.rwlock(world.name, ttl=TTL, namespace=world.namespace, backoff=PATIENT)
        for each in (one, other)
    ]
    readers = [await each.read().acquire() for each in sides]
    token = old.token()
    assert (await old.acquire(world.key, token, waits=False))[0] == HELD
    assert (await old.acquire(world.key, token))[0] == QUEUED
    waiting = asyncio.create_task(sides[0].read().acquire())
    await readers[0].release()
    await world.in_queue(2)
    await readers[1].release()
    fence = await old.granted(world.key, token)
    assert fence > readers[0].fencing_token
    behind = asyncio.create_task(sides[1].read().acquire())
    await world.in_queue(2)
    assert (await old.release(world.key, f"{token} {fence}"))[2] == 1
    with fail_after(WOKEN):
        first = await waiting
    assert first.fencing_token > fence
    await first.extend(TTL)
    assert (await old.acquire(world.key, old.token(), waits=False))[0] == HELD
    assert not behind.done()
    await first.release()
    with fail_after(WOKEN):
        await (await behind).release()
    async with sides[0].write():
        pass


@pytest.mark.parametrize("protocol", [2, 3])
async def test_batches_of_both(redis_url: str, namespace: str, protocol: int) -> None:
    """Six names in one request of either: all are handed over, and handed back."""
    world = World(redis_url, redis_url, namespace, protocol)
    async with world.stack:
        old, new = await world.old(), await world.today()
        names = [f"n{number}" for number in range(6)]
        keys = [namespace + name for name in names]
        locks = [world.lock(new, name) for name in names]
        leases = await asyncio.gather(*(lock.acquire() for lock in locks))
        tokens = [old.token() for _ in keys]
        asked = [old.item("acquire", key, token) for key, token in zip(keys, tokens, strict=True)]
        assert [code for code, *_ in await old.together(*asked)] == [QUEUED] * 6
        await asyncio.gather(*(lease.release() for lease in leases))
        values = []
        for key, token, lease in zip(keys, tokens, leases, strict=True):
            fence = await old.granted(key, token)
            assert fence > lease.fencing_token
            values.append(f"{token} {fence}")
        renewed = await old.together(
            *(old.item("renew", key, value) for key, value in zip(keys, values, strict=True))
        )
        assert [code for code, *_ in renewed] == [DONE] * 6

        waiting = [asyncio.create_task(lock.acquire()) for lock in locks]

        async def none_waits() -> int:
            return sum([await old.redis.zcard(old.queue(key)) == 0 for key in keys])

        await eventually(none_waits, 0, within=10)
        handed = await old.together(
            *(old.item("release", key, value, 0) for key, value in zip(keys, values, strict=True))
        )
        assert [(code, granted) for code, _, granted in handed] == [(DONE, 1)] * 6
        with fail_after(WOKEN):
            leases = await asyncio.gather(*waiting)
        assert [code for code, *_ in await old.together(*asked)] == [QUEUED] * 6
        left = await old.together(
            *(old.item("abandon", key, token) for key, token in zip(keys, tokens, strict=True))
        )
        assert [code for code, *_ in left] == [DONE] * 6
        await asyncio.gather(*(lease.release() for lease in leases))


@pytest.mark.parametrize("old_first", [False, True])
async def test_a_clock_set_back_is_one_state_for_both(
    embedded_redis: EmbeddedRedis, old_first: bool
) -> None:
    """The gap is added once, whoever adds it; the mark that one sets the other goes by."""
    world = World(embedded_redis.url, embedded_redis.url, "lock:", 3)
    async with world.stack:
        old, new = await world.old(), await world.today()
        seconds, _ = await old.redis.time()
        counter = (seconds + 1000) * 1_000_000
        await old.redis.set("aiodistlock:fence", counter)

        async def by_old() -> int:
            token = old.token()
            granted, _, fence, _ = await old.acquire(world.key, token)
            assert granted == GRANTED
            assert (await old.release(world.key, f"{token} {fence}"))[0] == DONE
            return int(fence)

        async def by_new() -> int:
            async with world.lock(new) as lease:
                return lease.fencing_token

        turns = (by_old, by_new) if old_first else (by_new, by_old)
        fences = [await turn() for turn in turns * 2]
        assert fences == [counter + 1001 + number for number in range(4)]
        assert await old.redis.get("aiodistlock:fence") == b"%d behind" % fences[-1]

        # Hand-offs, too: what a message tells is not the clock's.
        token, lease = old.token(), await world.lock(new).acquire()
        assert (await old.acquire(world.key, token))[0] == QUEUED
        await lease.release()
        fence = await old.granted(world.key, token)
        waiting = await world.waits(await world.today(), 0)
        assert (await old.release(world.key, f"{token} {fence}"))[2] == 1
        with fail_after(WOKEN):
            after = await waiting
        await after.release()
        issued = [lease.fencing_token, fence, after.fencing_token]
        assert issued == [fences[-1] + 1, fences[-1] + 2, fences[-1] + 3]


async def test_behind_sentinels(sentinels: SentinelDeployment) -> None:
    """The same scripts at the primary that they name."""
    world = World(sentinels.url, sentinels.master.url, "lock:", 3)
    async with world.stack:
        await test_a_release_reaches_the_next_of_either_edition(world)
        await test_a_lock_is_passed_on_and_comes_back(world)
