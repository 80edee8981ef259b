"""A release that its server forgot, as in a failover: the lock need not wait for the ttl."""

import asyncio
import gc
from typing import Any

import pytest
import redis.asyncio as redis_asyncio
from anyio import fail_after

from aiodistlock import AsyncLock, LeaseLost
from aiodistlock.compat import RedisPyLock
from aiodistlock.core.value import read_value, value_of
from aiodistlock.engines import shared_engines
from tests.faults.world import PATIENT, client, lose, nothing_left, waiters

TTL = 30.0
"""Longer than a test may take: nobody is served by the expiry."""


@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_lease_that_was_given_back_bars_nobody_who_waits(
    redis_url: str, redis: redis_asyncio.Redis, namespace: str, protocol: int
) -> None:
    """Its process finds it at the key again, and gives it back once more; the first is served."""
    options: dict[str, Any] = {"ttl": TTL, "namespace": namespace, "backoff": PATIENT}
    async with client(redis_url, protocol=protocol) as here, client(redis_url) as there:
        lease = await here.lock("n", **options).acquire()
        await lease.release()
        # What a server says that never heard of the release.
        value = value_of(lease.token.encode(), lease.fencing_token)
        await redis.set(f"{namespace}n", value, px=int(1000 * TTL))
        first = asyncio.create_task(there.lock("n", **options).acquire())
        while await waiters(redis, namespace, "n") != 1:
            await asyncio.sleep(0.005)
        with fail_after(5):
            second = asyncio.create_task(here.lock("n", **options).acquire())
            newer = await first
            assert not second.done()
            await newer.release()
            newest = await second
        assert lease.fencing_token < newer.fencing_token < newest.fencing_token
        await newest.release()
    await nothing_left(redis, namespace)


async def test_a_lease_beside_one_that_the_server_let_go_is_not_given_back(
    redis_url: str, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """Where a client believes in two leases on a name for a while, one may end alone."""
    options: dict[str, Any] = {"ttl": TTL, "namespace": namespace, "backoff": PATIENT}
    async with client(redis_url) as here, client(redis_url) as there:
        shared = here.lock("n", **options)
        lease = await shared.acquire()
        local = asyncio.create_task(shared.acquire())
        await asyncio.sleep(0)
        await redis.delete(f"{namespace}n")
        own = here.lock("n", local_handoffs=0, **options)
        newer = await asyncio.create_task(own.acquire())  # a task that holds nothing yet
        await lease.release()
        with pytest.raises(LeaseLost):
            await (await local).release()
        first = asyncio.create_task(shared.acquire())
        second = asyncio.create_task(there.lock("n", **options).acquire())
        while await waiters(redis, namespace, "n") != 2:
            await asyncio.sleep(0.005)
        assert (await shared.inspect()).holder == newer.token
        await newer.release()
        with fail_after(5):
            for each in (first, second):
                await (await each).release()
    await nothing_left(redis, namespace)


async def test_an_acquisition_that_was_abandoned_bars_nobody_who_waits(
    redis_url: str, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """The same where it was granted to somebody who had left."""
    lock: dict[str, Any] = {"ttl": TTL, "namespace": namespace, "backoff": PATIENT}
    async with client(redis_url) as here:
        engine = here._engine("n")
        await redis.set(f"{namespace}n", value_of(engine.next_token(), 1), px=int(1000 * TTL))
        with fail_after(5):
            await (await here.lock("n", **lock).acquire()).release()
    await nothing_left(redis, namespace)


async def test_a_token_that_was_given_away_is_left_to_who_has_it(
    redis_url: str, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """redis-py's lock holds until its timeout though the object is gone; so does ours."""
    async with redis_asyncio.Redis.from_url(redis_url) as own:
        given = own.lock(f"{namespace}n", timeout=TTL, lock_class=RedisPyLock)
        assert await given.acquire()
        token = given.local.token
        del given
        gc.collect()
        lock = AsyncLock(own, "n", namespace=namespace, ttl=TTL, backoff=PATIENT)
        waiting = asyncio.create_task(lock.acquire())
        while await waiters(redis, namespace, "n") != 1:
            await asyncio.sleep(0.005)
        # Whatever was sent behind the request that queued is answered by then.
        assert (await lock.inspect()).holder == read_value(token).token.decode()
        with fail_after(5):
            another = own.lock(f"{namespace}n", lock_class=RedisPyLock)
            another.local.token = token
            await another.release()
            await (await waiting).release()
        await shared_engines(own).aclose()
    await nothing_left(redis, namespace)


@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_token_is_its_owner_s_before_the_owner_s_task_has_run(
    redis_url: str, redis: redis_asyncio.Redis, namespace: str, protocol: int
) -> None:
    """The grant to one and the place in the queue of another arrive in one read."""
    async with redis_asyncio.Redis.from_url(redis_url, protocol=protocol) as own:
        # Connected, and heard: both requests leave in one write.
        warm: dict[str, Any] = {
            "namespace": namespace,
            "ttl": TTL,
            "local_handoffs": 0,
            "backoff": PATIENT,
        }
        holding = await AsyncLock(own, "warm", **warm).acquire()
        waiting = asyncio.create_task(AsyncLock(own, "warm", **warm).acquire())
        while await waiters(redis, namespace, "warm") != 1:
            await asyncio.sleep(0.005)
        await holding.release()
        await (await waiting).release()
        locks = [
            own.lock(f"{namespace}n", timeout=TTL, lock_class=RedisPyLock, thread_local=False)
            for _ in range(2)
        ]
        tasks = [asyncio.create_task(lock.acquire()) for lock in locks]
        while await waiters(redis, namespace, "n") != 1:
            await asyncio.sleep(0.005)
        assert await locks[0].owned()
        assert not tasks[1].done()
        with fail_after(5):
            await locks[0].release()
            assert await tasks[1]
            await locks[1].release()
        await shared_engines(own).aclose()
    await nothing_left(redis, namespace)


@pytest.mark.parametrize("auto_renew", [True, False])
async def test_others_wait_until_a_body_whose_lease_is_lost_has_ended(
    redis_url: str, redis: redis_asyncio.Redis, namespace: str, auto_renew: bool
) -> None:
    """What stands at the key then is no leftover, though nobody may rely on it."""
    options: dict[str, Any] = {
        "ttl": TTL,
        "namespace": namespace,
        "backoff": PATIENT,
        "on_lost": "signal",
    }
    async with client(redis_url) as here:
        lock = here.lock("n", auto_renew=auto_renew, **options)
        with pytest.raises(LeaseLost):  # noqa: PT012 - the block raises
            async with lock as lease:
                lose(lease)
                waiting = asyncio.create_task(lock.acquire())
                while await waiters(redis, namespace, "n") != 1:
                    await asyncio.sleep(0.005)
                # Whatever was sent behind the request that queued is answered by then.
                assert (await lock.inspect()).holder == lease.token
        with fail_after(5):
            await (await waiting).release()
    await nothing_left(redis, namespace)
