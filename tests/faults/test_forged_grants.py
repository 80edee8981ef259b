"""Messages that make nobody the holder: those of strangers, and those about another lock."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest
from anyio import fail_after

from aiodistlock import AsyncLock, Lease
from aiodistlock.core.keys import LockKeys
from aiodistlock.protocol.grant_message import prove
from tests.faults.world import PATIENT, client, eventually

DAY_MS = 86_400_000


def _inbox(token: str) -> str:
    """Name the inbox of whoever has a token, as anybody can who sees it."""
    return f"aiodistlock:inbox:{token.rpartition(':')[0]}"


async def _queued(lock: AsyncLock, count: int = 1) -> list[str]:
    await eventually(lambda: _count(lock), count)
    return list((await lock.inspect()).waiters)


async def _count(lock: AsyncLock) -> int:
    return len((await lock.inspect()).waiters)


FORGED: dict[str, Callable[[bytes], bytes]] = {
    "no proof": lambda grant: grant,
    "a guessed secret": lambda grant: prove(grant, b"") + b" " + grant,
    "a word": lambda grant: b"0123456789abcdef " + grant,
    "what went before": lambda grant: grant.partition(b" ")[2],
}


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
async def test_a_strangers_grant_makes_nobody_the_holder(  # noqa: PLR0917  # fixtures
    redis_url: str,
    redis: Any,
    namespace: str,
    protocol: int,
    forge: Callable[[bytes], bytes],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Who knows channel, token and key, but not the queue, is not believed; it is told."""
    caplog.set_level(logging.WARNING, "aiodistlock")
    with fail_after(10):
        async with client(redis_url) as one, client(redis_url, protocol=protocol) as two:
            mine, theirs = (
                each.lock("n", ttl=20.0, namespace=namespace, backoff=PATIENT)
                for each in (one, two)
            )
            lease = await mine.acquire()
            waiting = asyncio.create_task(theirs.acquire())
            (token,) = await _queued(mine)
            now = time.time_ns() // 1000
            grant = f"2 {lease.fencing_token + 1} {now} {DAY_MS} {token} {namespace}n".encode()
            assert await redis.publish(_inbox(token), forge(grant)) == 1

            async def told() -> bool:
                return "no grant" in caplog.text

            await eventually(told, True)
            assert not waiting.done()
            assert lease.is_held
            await lease.release()
            await (await waiting).release()


async def test_a_grant_that_was_heard_is_no_pattern_for_another(
    redis_url: str, redis: Any, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Who listens to an inbox learns nothing by which to forge what comes there."""
    caplog.set_level(logging.WARNING, "aiodistlock")
    with fail_after(10):
        async with client(redis_url) as one, client(redis_url) as two, redis.pubsub() as ear:
            mine, theirs = (
                each.lock("n", ttl=20.0, namespace=namespace, backoff=PATIENT)
                for each in (one, two)
            )
            lease = await mine.acquire()
            waiting = asyncio.create_task(theirs.acquire())
            (token,) = await _queued(mine)
            await ear.subscribe(_inbox(token))
            assert (await ear.get_message(timeout=5))["type"] == "subscribe"
            await lease.release()
            await (await waiting).release()
            heard: bytes = (await ear.get_message(timeout=5))["data"]

            lease = await mine.acquire()
            waiting = asyncio.create_task(theirs.acquire())
            (newer,) = await _queued(mine)
            proof, _, grant = heard.partition(b" ")
            for forged in (heard, heard.replace(token.encode(), newer.encode())):
                assert await redis.publish(_inbox(newer), forged) == 2
            assert await redis.publish(_inbox(newer), proof + b" " + grant + b" x") == 2

            async def told() -> int:
                return caplog.text.count("no grant")

            await eventually(told, 2)  # the very message again is one of a lease that is over
            assert not waiting.done()
            await lease.release()
            await (await waiting).release()


@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_proven_grant_of_another_key_is_refused(
    redis_url: str,
    redis: Any,
    namespace: str,
    protocol: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Were two locks to share a queue, their leases would still be two; the stray one ends."""
    caplog.set_level(logging.WARNING, "aiodistlock")
    keys = LockKeys("n", namespace)
    with fail_after(10):
        async with client(redis_url) as one, client(redis_url, protocol=protocol) as two:
            mine, theirs = (
                each.lock("n", ttl=20.0, namespace=namespace, backoff=PATIENT)
                for each in (one, two)
            )
            lease = await mine.acquire()
            waiting = asyncio.create_task(theirs.acquire())
            (token,) = await _queued(mine)
            ((record, _),) = await redis.zpopmin(keys.queue)
            fence = lease.fencing_token + 1
            await redis.set(f"{namespace}other", f"{token} {fence}")
            now = time.time_ns() // 1000
            grant = f"2 {fence} {now} 1000 {token} {namespace}other".encode()
            proven = prove(grant, record.split(b" ")[2]) + b" " + grant
            assert await redis.publish(_inbox(token), proven) == 1
            # It asks, and has its place again; what was granted to nobody goes.
            assert await _queued(mine) == [token]
            await eventually(lambda: redis.exists(f"{namespace}other"), 0)
            assert not waiting.done()
            assert "refused: lock 'n' was asked for" in caplog.text
            await lease.release()
            await (await waiting).release()


async def test_who_may_read_the_queue_makes_a_holder_for_a_claim_window_at_most(
    redis_url: str, redis: Any, namespace: str
) -> None:
    """Even a proven grant for a day is what was asked for, counted from before it came."""
    keys = LockKeys("n", namespace)
    with fail_after(10):
        async with client(redis_url) as one, client(redis_url, claim_window=0.5) as two:
            mine, theirs = (
                each.lock("n", ttl=20.0, namespace=namespace, backoff=PATIENT)
                for each in (one, two)
            )
            lease = await mine.acquire()
            waiting = asyncio.create_task(_bounded(theirs))
            (token,) = await _queued(mine)
            (record,) = await redis.zrange(keys.queue, 0, -1)
            now = time.time_ns() // 1000
            grant = f"2 {lease.fencing_token + 1} {now} {DAY_MS} {token} {namespace}n".encode()
            await redis.publish(_inbox(token), prove(grant, record.split(b" ")[2]) + b" " + grant)
            assert await waiting <= 0.5
            await lease.release()  # to the place in the queue that is still theirs
            await eventually(lambda: redis.exists(keys.key), 0)


async def _bounded(lock: AsyncLock) -> float:
    """Acquire; return for how long the lease is relied on as it begins."""
    lease: Lease = await lock.acquire()
    validity = lease.validity
    await lease.wait_lost()
    return validity
