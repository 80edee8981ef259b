"""What listeners and the log are told when Redis fails, takes a lease back, or is silent."""

# ruff: noqa: PT012 - how a whole block ends is what is tested

import asyncio
import time
from contextlib import AsyncExitStack

import pytest
import redis.asyncio as redis_asyncio

from aiodistlock import (
    Acquired,
    LeaseLost,
    LockClient,
    Lost,
    Released,
    Renewed,
    StoreUnavailable,
    Unavailable,
)
from aiodistlock.testing.discovery import free_port
from aiodistlock.testing.embedded import EmbeddedRedis
from tests.faults.world import EAGER, client, waiters
from tests.proxy import ChaosProxy
from tests.stories import Told


def _warnings(caplog: pytest.LogCaptureFixture, start: str) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelname == "WARNING" and record.getMessage().startswith(start)
    ]


@pytest.mark.parametrize("nodes", [1, 3], ids=["single", "quorum"])
async def test_a_redis_that_is_unavailable(nodes: int, caplog: pytest.LogCaptureFixture) -> None:
    """Every task that gives up is told of; the log has one line for all, without passwords."""
    urls = [f"redis://:hunter2@127.0.0.1:{free_port()}" for _ in range(nodes)]
    told = Told()
    made = LockClient.from_url(
        urls[0] if nodes == 1 else urls, unavailable_after=0.1, listeners=[told]
    )
    async with made:
        lock = made.lock("n")
        done = await asyncio.gather(lock.acquire(), lock.acquire(), return_exceptions=True)
    assert [type(each) for each in done] == [StoreUnavailable] * 2
    assert told.stories == ["WU", "WU"]
    # A round ends once no majority can be had: the last node may not have failed yet.
    assert nodes // 2 < len(told.all(Unavailable)[0].causes) <= nodes
    assert told.all(Unavailable)[0].waited >= 0.1
    (line,) = _warnings(caplog, "lock 'n': Redis is unavailable")
    assert line.endswith("tasks that wait no longer: 2")
    assert "hunter2" not in caplog.text + repr(told.events)


async def test_a_lease_that_redis_refuses_to_renew(
    redis: redis_asyncio.Redis, redis_url: str, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The loss is told with the reason that Redis gave, and logged once."""
    told = Told()
    async with client(redis_url, listeners=[told]) as made:
        with pytest.raises(LeaseLost):
            async with made.lock("n", ttl=1.5, namespace=namespace):
                await redis.delete(f"{namespace}n")
                await asyncio.sleep(20)
    assert told.order == "W1 A1 L1"
    assert "key is gone" in told.only(Lost).reason
    assert len(_warnings(caplog, "lease on 'n' lost: ")) == 1


@pytest.mark.parametrize("by_hand", [False, True], ids=["block", "by hand"])
async def test_a_loss_that_redis_tells_at_the_release(
    redis: redis_asyncio.Redis,
    redis_url: str,
    namespace: str,
    by_hand: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is told as a loss, not as a release, and logged once."""
    told = Told()
    async with client(redis_url, listeners=[told]) as made:
        lock = made.lock("n", namespace=namespace)
        with pytest.raises(LeaseLost):
            async with AsyncExitStack() as stack:
                lease = await (lock.acquire() if by_hand else stack.enter_async_context(lock))
                await redis.delete(f"{namespace}n")
                if by_hand:
                    await lease.release()
    assert told.order == "W1 A1 L1"
    assert "key is gone" in told.only(Lost).reason
    assert len(_warnings(caplog, "lease on 'n' lost: ")) == 1


@pytest.mark.parametrize("cancelled", [False, True], ids=["waited for", "cancelled"])
async def test_a_release_that_fails(
    embedded_redis: EmbeddedRedis, cancelled: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told as a release, with why Redis did not confirm it."""
    told = Told()
    async with client(embedded_redis.url, listeners=[told], unavailable_after=0.3) as made:
        lease = await made.lock("n", ttl=2.0).acquire()
        embedded_redis.kill()
        releasing = asyncio.create_task(lease.release())
        if cancelled:
            await asyncio.sleep(0)
            releasing.cancel()
        done = await asyncio.wait([releasing])
        assert releasing in done[0]
        await told.until(Released)
    assert told.order == "W1 A1 R1"
    assert isinstance(told.only(Released).cause, Exception)
    assert not _warnings(caplog, "lease on ")
    # One for the connection that broke, though the release tried again and again.
    assert len(_warnings(caplog, "no connection to Redis")) == 1
    if not cancelled:
        assert isinstance(releasing.exception(), StoreUnavailable)


async def test_a_grant_whose_message_was_lost(
    redis: redis_asyncio.Redis, redis_url: str, namespace: str, proxy: ChaosProxy
) -> None:
    """The waiter asks again and finds itself the holder: told as acquired all the same."""
    told = Told()
    async with client(redis_url) as here, client(proxy.url, listeners=[told]) as there:
        held = await here.lock("n", namespace=namespace).acquire()
        lock = there.lock("n", namespace=namespace, backoff=EAGER)
        waiting = asyncio.create_task(lock.acquire())
        while not await waiters(redis, namespace, "n"):
            await asyncio.sleep(0)
        await proxy.cut()
        await held.release()
        await (await waiting).release()
    told.check_whole()
    assert len(told.all(Acquired)) == 1


@pytest.mark.parametrize("silent", ["redis", "loop"])
async def test_the_lag_of_a_renewal_tells_of_silence(
    embedded_redis: EmbeddedRedis, silent: str
) -> None:
    """It counts from the instant at which the renewal was due, not from its request."""
    told = Told()
    async with (
        client(embedded_redis.url, listeners=[told]) as made,
        made.lock("n", ttl=2.1),
    ):
        # Due after a third of that; then Redis, or the loop, must be silent for longer.
        if silent == "redis":
            embedded_redis.freeze()
            await asyncio.sleep(1.0)
            embedded_redis.thaw()
        else:
            time.sleep(1.0)
        await told.until(Renewed)
    assert told.all(Renewed)[0].lag > 0.1
