"""Processes of another edition of the wire on the same Redis."""

import asyncio
import logging
from typing import Any

import pytest
from anyio import fail_after

from aiodistlock.core.keys import LockKeys
from aiodistlock.protocol.grant_message import prove
from tests.faults.world import PATIENT, client, eventually, waiters


@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_message_in_words_of_another_edition_has_waiters_ask_and_is_told_once(
    redis_url: str, redis: Any, namespace: str, protocol: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever was granted the lock by it learns so from the answer, well within the grant."""
    caplog.set_level(logging.WARNING, "aiodistlock")
    keys = LockKeys("n", namespace)
    async with client(redis_url, protocol=protocol) as here:
        lock = here.lock("n", ttl=20.0, namespace=namespace, backoff=PATIENT)
        for number in (1, 2):
            await redis.set(keys.key, f"elsewhere:1:00000000:{number}", px=20_000)
            waiting = asyncio.create_task(lock.acquire())
            await eventually(lambda: waiters(redis, namespace, "n"), 1)
            # As release.lua does, in the words of another edition.
            (record,) = await redis.zrange(keys.queue, 0, -1)
            _, inbox, secret, token = record.split(b" ")
            await redis.zrem(keys.queue, record)
            await redis.set(keys.key, b"%b %d" % (token, number), px=5000)
            message = b"3 is how they say it"
            await redis.publish(inbox, prove(message, secret) + b" " + message)
            with fail_after(2):
                lease = await waiting
            assert lease.token.encode() == token
            assert await redis.pttl(keys.key) > 5000, "asked for, not granted by message"
            assert caplog.text.count("edition 3 of the wire") == 1
            await lease.release()


async def test_a_stranger_has_nobody_ask(redis_url: str, redis: Any, namespace: str) -> None:
    """What names another edition without a proof is no message of ours."""
    with fail_after(10):
        async with client(redis_url) as one, client(redis_url) as two:
            mine, theirs = (
                each.lock("n", ttl=20.0, namespace=namespace, backoff=PATIENT)
                for each in (one, two)
            )
            lease = await mine.acquire()
            waiting = asyncio.create_task(theirs.acquire())
            await eventually(lambda: waiters(redis, namespace, "n"), 1)
            (record,) = await redis.zrange(LockKeys("n", namespace).queue, 0, -1)
            asked = (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
            await redis.publish(record.split(b" ")[1], b"3 is how they say it")
            await redis.publish(record.split(b" ")[1], b"0" * 40 + b" 3 is how they say it")
            await asyncio.sleep(0.1)  # real time: nothing follows
            assert (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"] == asked
            await lease.release()
            await (await waiting).release()
