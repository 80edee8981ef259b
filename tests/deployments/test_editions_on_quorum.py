"""Editions of the wire on the nodes of a quorum."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import redis.asyncio as redis_asyncio
from anyio import fail_after

from aiodistlock import AsyncLock, LockClient
from aiodistlock.core.keys import LockKeys
from aiodistlock.protocol.grant_message import WIRE, prove
from aiodistlock.waiting.pauses import MAX_PAUSE
from tests.deployments.editions.edition_2 import (
    DONE,
    GRANTED,
    HASH_TAG,
    HELD,
    OF_SLOT,
    OTHER,
    Process,
)
from tests.deployments.quorum import NEVER, warm
from tests.faults.world import eventually

pytestmark = pytest.mark.bounded(60)

NAME = f"{HASH_TAG}n"


@pytest.fixture
async def nodes(quorum_urls: list[str]) -> AsyncIterator[list[redis_asyncio.Redis]]:
    """A client of each node."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(redis_asyncio.from_url(url)) for url in quorum_urls]


def lock_of(client: LockClient, namespace: str) -> AsyncLock:
    """Build the lock; it does not poll."""
    return client.lock(NAME, ttl=40.0, namespace=namespace, backoff=NEVER)


async def queued(nodes: list[redis_asyncio.Redis], key: str, count: int = 1) -> None:
    """Wait until so many wait on every node."""

    async def lengths() -> set[int]:
        return {int(await node.zcard(Process.queue(key))) for node in nodes}

    await eventually(lengths, {count}, within=10)


async def test_edition_2_and_today_vote_alike(
    quorum_urls: list[str], quorum_namespace: str, nodes: list[redis_asyncio.Redis]
) -> None:
    """Who has the votes is told alike, and each hints to the other when it gives them up."""
    key = quorum_namespace + NAME
    async with AsyncExitStack() as stack:
        new = await stack.enter_async_context(LockClient.from_url(quorum_urls))
        await warm(new)
        lock = lock_of(new, quorum_namespace)
        olds = [
            await stack.enter_async_context(Process(node, number, of_slot=OF_SLOT))
            for number, node in enumerate(nodes)
        ]
        lease = await lock.acquire()
        waiter = olds[0].token()
        proposed = time.time_ns() // 1000
        for old in olds:
            held, _, _, seen, _ = await old.vote(key, f"{waiter}.1", proposed)
            assert held == HELD
            assert seen.split(" ")[0] == lease.token
            assert (await old.renew_vote(key, f"{waiter}.1"))[0] == OTHER
        await lease.release()
        for old in olds:
            await old.hinted(key, waiter)
        fences = []
        for old in olds:
            granted, _, fence = await old.vote(key, f"{waiter}.2", proposed)
            assert granted == GRANTED
            assert fence > lease.fencing_token
            assert (await old.renew_vote(key, f"{waiter}.2"))[0] == DONE
            fences.append(fence)

        assert await lock.try_acquire() is None
        assert (await lock.inspect()).holder == f"{waiter}.2"
        waiting = asyncio.create_task(lock.acquire())
        await queued(nodes, key)
        for old in olds:
            done, _, hinted = await old.unvote(key, f"{waiter}.2")
            assert (done, hinted) == (DONE, 1)
        with fail_after(0.6 * MAX_PAUSE):
            after = await waiting
        assert after.fencing_token > max(fences)
        await after.release()


@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_hint_in_words_of_another_edition_has_waiters_ask_and_is_told_once(
    quorum_urls: list[str],
    quorum_namespace: str,
    nodes: list[redis_asyncio.Redis],
    protocol: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever it says, it is proven: perhaps the lock is free, and nothing else tells."""
    caplog.set_level(logging.WARNING, "aiodistlock")
    keys, other = LockKeys(NAME, quorum_namespace), int(WIRE) + 1
    async with LockClient.from_url(quorum_urls, protocol=protocol) as here:
        await warm(here)
        lock = lock_of(here, quorum_namespace)
        for number in (1, 2):
            for node in nodes:
                await node.set(keys.key, f"elsewhere:1:00000000:{number}.1", px=40_000)
            waiting = asyncio.create_task(lock.acquire())
            await queued(nodes, keys.key.decode())
            # As unvote.lua does, in the words of another edition.
            records: list[Any] = [(await node.zrange(keys.queue, 0, 0))[0] for node in nodes]
            for node, record in zip(nodes, records, strict=True):
                await node.zrem(keys.queue, record)
                await node.delete(keys.key)
            _, inbox, secret, _ = records[0].split(b" ")
            message = b"%d is how they say it" % other
            await nodes[0].publish(inbox, prove(message, secret) + b" " + message)
            with fail_after(0.6 * MAX_PAUSE):
                lease = await waiting
            assert caplog.text.count(f"edition {other} of the wire") == 1
            await lease.release()
