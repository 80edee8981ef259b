"""``inspect`` and ``locked`` where no answer comes."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from aiodistlock import LockClient, StoreUnavailable
from aiodistlock.compat import RedisPyLock
from aiodistlock.engines import shared_engines
from aiodistlock.protocol.await_answer import ASKED_WITHIN


@pytest.fixture
async def silent() -> AsyncIterator[int]:
    """The port of a server that takes connections, and never says a word."""
    writers: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: writers.append(writer), "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    for writer in writers:
        writer.close()


DEPLOYMENTS: dict[str, Callable[[int], str | list[str]]] = {
    "one": lambda port: f"redis://127.0.0.1:{port}",
    "sentinel": lambda port: f"redis+sentinel://127.0.0.1:{port}/mymaster",
    "cluster": lambda port: f"redis+cluster://127.0.0.1:{port}",
    "quorum": lambda port: [f"redis://127.0.0.1:{port}/{n}" for n in range(3)],
    "nobody": lambda _: "redis://127.0.0.1:1",
}


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
async def test_a_question_waits_for_no_longer_than_it_is_told(silent: int, deployment: str) -> None:
    """``StoreUnavailable`` that says so, whatever is silent, or not there at all."""
    async with LockClient.from_url(DEPLOYMENTS[deployment](silent)) as locks:
        lock, began = locks.lock("wallet"), time.monotonic()
        for question in (lock.inspect(0.2), lock.locked(timedelta(seconds=0.2))):
            with pytest.raises(StoreUnavailable, match="wallet") as caught:
                await question
            (cause, *_) = caught.value.causes
            assert caught.value.__cause__ is cause
            assert isinstance(cause, OSError | RedisError)
        assert time.monotonic() - began < 2
        assert not locks._engines["local"].attempts


async def test_by_default_a_question_waits_for_three_seconds(silent: int) -> None:
    """It does not take ``unavailable_after``, in a RedisPyLock no more than in an AsyncLock."""
    redis = Redis(port=silent)
    async with LockClient.from_url(f"redis://127.0.0.1:{silent}") as locks:
        mine = RedisPyLock(redis, "wallet")
        mine.local.token = b"mine"
        began = time.monotonic()
        told = await asyncio.gather(
            *(locks.lock("w").locked(), mine.locked(), mine.owned()), return_exceptions=True
        )
        assert ASKED_WITHIN == 3 <= time.monotonic() - began < 10
    assert [type(each) for each in told] == [StoreUnavailable, RedisTimeoutError, RedisTimeoutError]
    await shared_engines(redis).aclose()
    await redis.aclose()


@pytest.mark.parametrize("timeout", [-1, "1", float("nan"), timedelta(-1)])
async def test_a_wrong_timeout_is_refused_before_any_io(timeout: float) -> None:
    """A ``ValueError``, as everywhere."""
    async with LockClient.in_memory() as locks:
        for question in (locks.lock("w").inspect(timeout), locks.lock("w").locked(timeout)):
            with pytest.raises(ValueError, match="timeout"):
                await question
        assert not await locks.lock("w").locked(timeout=None)
