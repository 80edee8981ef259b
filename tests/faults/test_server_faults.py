"""A server that is frozen, killed, flushed, paused, full, or not there at all."""

# ruff: noqa: PT012 - how a whole block ends is what is tested

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis.asyncio as redis_asyncio

from aiodistlock import AcquireTimeout, AsyncLock, LeaseLost, LockClient, StoreUnavailable
from aiodistlock.connection.unsupported_commands import MOST_CUT_OFF
from aiodistlock.protocol import cleanup
from aiodistlock.testing.discovery import free_port
from aiodistlock.testing.embedded import EmbeddedRedis
from tests.faults.world import EAGER, PATIENT, client, eventually, nothing_left, waiters
from tests.proxy import ChaosProxy

NAMESPACE = "lock:"


@pytest.fixture(params=[3, 2], ids=["resp3", "resp2"])
async def pair(
    embedded_redis: EmbeddedRedis, request: pytest.FixtureRequest
) -> AsyncIterator[tuple[LockClient, LockClient]]:
    """Two clients of a server of the test's own, warm."""
    made = [client(embedded_redis.url, protocol=request.param) for _ in range(2)]
    for each in made:
        await (await each.lock("warm").acquire()).release()
    yield made[0], made[1]
    for each in made:
        await each.aclose()


@pytest.fixture
async def own(embedded_redis: EmbeddedRedis) -> AsyncIterator[redis_asyncio.Redis]:
    """A plain client of the test's own server."""
    async with redis_asyncio.from_url(embedded_redis.url) as redis:
        yield redis


async def queue(lock: AsyncLock, own: redis_asyncio.Redis) -> asyncio.Task[float]:
    """Start a task that waits at Redis, and tells when it got the lock."""

    async def wait() -> float:
        async with lock:
            return time.monotonic()

    task = asyncio.create_task(wait())
    await eventually(lambda: waiters(own, NAMESPACE, lock.name), 1)
    return task


async def test_a_freeze_shorter_than_the_ttl_costs_no_lease_and_no_wait(
    embedded_redis: EmbeddedRedis,
    pair: tuple[LockClient, LockClient],
    own: redis_asyncio.Redis,
) -> None:
    """While held, while waiting and while acquiring: all go on after it."""
    here, there = pair
    held = here.lock("held", ttl=4.0)
    async with held as lease:
        waiting = await queue(there.lock("held", ttl=4.0), own)
        embedded_redis.freeze()
        acquiring = asyncio.create_task(there.lock("other", ttl=4.0).acquire())
        # Real time: longer than a renewal interval, shorter than the ttl.
        await asyncio.sleep(1.4)
        embedded_redis.thaw()
        await (await acquiring).release()
        assert lease.is_held
        assert not waiting.done()
        released = time.monotonic()
    assert await waiting - released < 3.0
    await nothing_left(own, NAMESPACE)


async def test_an_answer_later_than_the_ttl_is_no_lease(
    embedded_redis: EmbeddedRedis, pair: tuple[LockClient, LockClient]
) -> None:
    """What a freeze let grow too old is asked for again: the body starts with a good lease."""
    here, _ = pair
    embedded_redis.freeze()
    asyncio.get_running_loop().call_later(1.5, embedded_redis.thaw)
    async with here.lock("n", ttl=1.2) as lease:
        assert lease.validity > 0.1
        lease.check()


async def test_a_timeout_holds_against_a_frozen_server(
    embedded_redis: EmbeddedRedis,
    pair: tuple[LockClient, LockClient],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """acquire(timeout=0.2) ends after 0.2 s, and leaves nothing once the server goes on."""
    # Whoever waited for the clean-up would come far too late.
    monkeypatch.setattr(cleanup, "CLEANUP_WITHIN", 20.0)
    here, there = pair
    embedded_redis.freeze()
    began = time.monotonic()
    with pytest.raises(AcquireTimeout):
        await here.lock("n", ttl=60.0).acquire(timeout=0.2)
    assert 0.19 < time.monotonic() - began < 2.0
    embedded_redis.thaw()
    await (await there.lock("n", backoff=EAGER).acquire(timeout=10)).release()


async def test_a_cancelled_acquire_ends_soon_against_a_frozen_server(
    embedded_redis: EmbeddedRedis, pair: tuple[LockClient, LockClient]
) -> None:
    """The clean-up is waited for, but not for long."""
    here, there = pair
    embedded_redis.freeze()
    acquiring = asyncio.create_task(here.lock("n", ttl=60.0).acquire())
    await asyncio.sleep(0)
    began = time.monotonic()
    acquiring.cancel()
    await asyncio.wait([acquiring])
    assert acquiring.cancelled()
    assert time.monotonic() - began < 3.0
    embedded_redis.thaw()
    await (await there.lock("n", backoff=EAGER).acquire(timeout=10)).release()


async def test_a_killed_server_takes_the_leases_along_and_waiters_get_in_after_the_restart(
    embedded_redis: EmbeddedRedis,
    pair: tuple[LockClient, LockClient],
    own: redis_asyncio.Redis,
) -> None:
    """The body is cancelled after the reconnection; the fencing token rises all the same."""
    here, there = pair
    with pytest.raises(LeaseLost):
        async with here.lock("n", ttl=20.0) as lease:
            waiting = await queue(there.lock("n", ttl=20.0), own)
            embedded_redis.kill()
            acquiring = asyncio.create_task(there.lock("other", ttl=20.0).acquire())
            await asyncio.sleep(0.1)  # real time: connecting fails meanwhile
            embedded_redis.restart()
            began = time.monotonic()
            await asyncio.sleep(20)
    assert time.monotonic() - began < 5.0  # the next renewal would be due later
    await waiting
    await (await acquiring).release()
    async with here.lock("n") as newer:
        assert newer.fencing_token > lease.fencing_token


async def test_flushed_scripts_are_sent_again(
    pair: tuple[LockClient, LockClient], own: redis_asyncio.Redis
) -> None:
    """SCRIPT FLUSH before each operation, and in the middle of many."""
    here, there = pair
    lock = here.lock("n", backoff=PATIENT)
    await own.script_flush()
    lease = await lock.acquire()
    await own.script_flush()
    await lease.extend(5.0)
    waiting = await queue(there.lock("n", backoff=PATIENT), own)
    await own.script_flush()
    await lease.release()
    await asyncio.wait_for(waiting, 5)

    async def use(number: int) -> None:
        async with here.lock(f"n{number % 10}"):
            await asyncio.sleep(0)

    users = [asyncio.create_task(use(number)) for number in range(200)]
    for _ in range(10):
        await own.script_flush()
    await asyncio.gather(*users)
    await nothing_left(own, NAMESPACE)


async def test_flushall_while_held_cancels_the_body_at_the_next_renewal(
    pair: tuple[LockClient, LockClient], own: redis_asyncio.Redis
) -> None:
    """LeaseLost, within a third of the ttl; the next fencing token is higher."""
    here, there = pair
    # Not because it was not renewed by its deadline.
    with pytest.raises(LeaseLost, match="key is gone") as caught:
        async with here.lock("n", ttl=3.0):
            await own.flushall()
            began = time.monotonic()
            await asyncio.sleep(20)
    assert time.monotonic() - began < 2.5
    lease = await there.lock("n").acquire()
    assert lease.fencing_token > caught.value.fencing_token
    await lease.release()


async def test_flushall_lets_waiters_in_soon(
    pair: tuple[LockClient, LockClient], own: redis_asyncio.Redis
) -> None:
    """They ask again on their own: nobody would tell them."""
    here, there = pair
    lease = await here.lock("n", ttl=60.0, auto_renew=False).acquire()
    waiting = await queue(there.lock("n"), own)
    await own.flushall()
    flushed = time.monotonic()
    assert await waiting - flushed < 5.0
    with pytest.raises(LeaseLost):
        await lease.release()


@pytest.mark.parametrize("kind", ["normal", "pubsub"])
async def test_killed_connections_are_made_again_and_cost_nothing(
    pair: tuple[LockClient, LockClient], own: redis_asyncio.Redis, kind: str
) -> None:
    """CLIENT KILL of each connection while held and while waiting, five times."""
    here, there = pair
    async with here.lock("n", ttl=20.0) as lease:
        waiting = await queue(there.lock("n", ttl=20.0, backoff=EAGER), own)
        for _ in range(5):
            await own.client_kill_filter(_type=kind, skipme=True)
            await (await here.lock("other").acquire(timeout=5)).release()
        lease.check()
        assert not waiting.done()
        released = time.monotonic()
    assert await waiting - released < 3.0
    await nothing_left(own, NAMESPACE)


@pytest.mark.parametrize("mode", ["ALL", "WRITE"])
async def test_a_pause_shorter_than_the_ttl_costs_nothing(
    pair: tuple[LockClient, LockClient], own: redis_asyncio.Redis, mode: str
) -> None:
    """CLIENT PAUSE while held, while waiting and while acquiring."""
    here, there = pair
    async with here.lock("n", ttl=4.0) as lease:
        waiting = await queue(there.lock("n", ttl=4.0), own)
        await own.client_pause(1400, all=mode == "ALL")  # longer than a renewal interval
        await (await there.lock("other").acquire(timeout=5)).release()
        lease.check()
        assert not waiting.done()
    await waiting
    await nothing_left(own, NAMESPACE)


async def test_no_memory_is_waited_for_and_then_said(
    embedded_redis: EmbeddedRedis, own: redis_asyncio.Redis
) -> None:
    """An acquire goes on once there is memory; without it StoreUnavailable names OOM."""
    async with (
        client(embedded_redis.url) as here,
        client(embedded_redis.url, unavailable_after=0.8) as impatient,
    ):
        lock = here.lock("n", backoff=EAGER)
        held = await here.lock("held").acquire()
        await own.config_set("maxmemory", "1")
        with pytest.raises(StoreUnavailable) as caught:
            await impatient.lock("n", backoff=EAGER).acquire()
        assert "OOM" in str(caught.value) or "memory" in str(caught.value)
        with pytest.raises(AcquireTimeout):
            await lock.acquire(timeout=0.1)
        await held.extend(5.0)
        await held.release()
        acquiring = asyncio.create_task(lock.acquire())
        # Real time: that it does not fail at once can only be told by waiting.
        await asyncio.sleep(0.1)
        assert not acquiring.done()
        await own.config_set("maxmemory", "0")
        await (await acquiring).release()
    await nothing_left(own, NAMESPACE)


@pytest.mark.parametrize("how", ["refused", "silent"])
async def test_an_unreachable_server_ends_an_acquire_by_its_bounds(
    how: str, redis_url: str
) -> None:
    """AcquireTimeout within ``timeout``, StoreUnavailable after ``unavailable_after``."""
    async with ChaosProxy.before(redis_url) as proxy:
        proxy.black_hole()
        url = proxy.url if how == "silent" else f"redis://127.0.0.1:{free_port()}"
        async with client(url, unavailable_after=0.8) as here:
            lock = here.lock("n", backoff=EAGER)
            for _ in range(2):
                began = time.monotonic()
                with pytest.raises(AcquireTimeout):
                    await lock.acquire(timeout=0.2)
                assert 0.19 < time.monotonic() - began < 3.0
                began = time.monotonic()
                with pytest.raises(StoreUnavailable) as caught:
                    await lock.acquire()
                assert 0.7 < time.monotonic() - began < 5.0
                assert len(caught.value.causes) == 1
            questions = lock.inspect(), lock.try_acquire()
            for answer in await asyncio.gather(*questions, return_exceptions=True):
                assert isinstance(answer, StoreUnavailable)


async def test_who_leaves_while_the_server_refuses_is_taken_out_of_the_queue_later(
    pair: tuple[LockClient, LockClient], own: redis_asyncio.Redis
) -> None:
    """A waiter that is cancelled while nothing can be written leaves as soon as it can be."""
    holder, waiter = (each.lock("n", ttl=60.0, backoff=EAGER) for each in pair)
    async with holder:
        waiting = asyncio.create_task(waiter.acquire())
        while await waiters(own, NAMESPACE, "n") != 1:
            await asyncio.sleep(0.005)
        await own.config_set("min-replicas-to-write", 1)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert await waiters(own, NAMESPACE, "n") == 1
        await own.config_set("min-replicas-to-write", 0)
        await eventually(lambda: waiters(own, NAMESPACE, "n"), 0)


class QuietConnection(redis_asyncio.Connection):
    """Says nothing as it connects, as one without a name, a password and RESP3 does."""

    async def on_connect(self) -> None:
        """Have a parser, and no more."""
        self._parser.on_connect(self)  # type: ignore[no-untyped-call]  # redis-py's


@pytest.mark.parametrize("kind", [redis_asyncio.Connection, QuietConnection])
async def test_a_server_with_too_many_clients_is_asked_again(
    redis_binary: Path, kind: type[redis_asyncio.Connection], caplog: pytest.LogCaptureFixture
) -> None:
    """It hangs up at the first request, if nothing was said before: that fails nobody."""
    caplog.set_level(logging.DEBUG, "aiodistlock")
    with EmbeddedRedis(binary=redis_binary, args=("--maxclients", "1")) as server:
        pool = redis_asyncio.ConnectionPool.from_url(server.url, protocol=2)
        pool.connection_class = kind
        async with (
            redis_asyncio.from_url(server.url) as first,
            redis_asyncio.Redis.from_pool(pool) as redis,
            LockClient(redis) as locks,
        ):
            await first.ping()
            acquiring = asyncio.create_task(locks.lock("a").acquire())

            async def told() -> bool:
                return caplog.text.count("no connection to Redis") > MOST_CUT_OFF + 1

            await eventually(told, True, within=20.0)
            assert not acquiring.done()
            await first.aclose()
            await (await acquiring).release()
        await pool.aclose()


async def test_whoever_was_refused_for_a_passing_reason_asks_again_soon(
    pair: tuple[LockClient, LockClient], own: redis_asyncio.Redis
) -> None:
    """Also who does not poll: nothing tells it that the server takes requests again."""
    await own.config_set("maxmemory-policy", "noeviction")
    await own.config_set("maxmemory", 1)
    acquiring = asyncio.create_task(pair[0].lock("n", backoff=PATIENT).acquire())

    async def refused() -> bool:
        return any(each.failure for each in pair[0]._engine("n").attempts.values())

    await eventually(refused, True)
    await own.config_set("maxmemory", 0)
    async with asyncio.timeout(8.0):  # by its backoff it would ask after ten
        lease = await acquiring
    await lease.release()
