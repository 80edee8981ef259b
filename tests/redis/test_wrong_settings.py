"""Options of the user's client that redis-py cannot make a connection of."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import redis.asyncio as redis_asyncio
from anyio import fail_after
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.sentinel import Sentinel

from aiodistlock import AsyncLock, LockClient, StoreUnavailable
from aiodistlock.compat.redis_py import RedisPyLock

URLS: dict[str, Any] = {
    "one": "redis://127.0.0.1:1",
    "tls": "rediss://127.0.0.1:1",
    "socket": "unix:///tmp/there-is-none.sock",
    "sentinel": "redis+sentinel://127.0.0.1:1/mymaster",
    "cluster": "redis+cluster://127.0.0.1:1",
}


@pytest.mark.parametrize("url", URLS.values(), ids=URLS)
def test_an_option_that_nobody_knows_is_a_type_error_at_once(url: str) -> None:
    """Neither as a keyword nor in the URL is it taken for an outage of Redis."""
    with pytest.raises(TypeError, match="ttl"):
        LockClient.from_url(url, ttl=3)  # type: ignore[call-arg]  # the very fault
    with pytest.raises(TypeError, match="ttl"):
        LockClient.from_url(f"{url}?ttl=3")


def test_it_is_one_on_a_quorum_too() -> None:
    """Each of several nodes is looked at."""
    with pytest.raises(TypeError, match="ttl"):
        LockClient.from_url(["redis://127.0.0.1:1", "redis://127.0.0.1:2"], ttl=3)  # type: ignore[call-arg]  # the very fault
    with pytest.raises(TypeError, match="ttl"):
        LockClient.from_url(["redis://127.0.0.1:1", "redis://127.0.0.1:2?ttl=3"])


def _sentinel() -> Redis:
    manager = Sentinel([("127.0.0.1", 1)])  # type: ignore[no-untyped-call]  # redis-py's
    return manager.master_for("mymaster", ttl=3)  # type: ignore[no-any-return]


def _several() -> list[Redis]:
    return [redis_asyncio.from_url(f"redis://127.0.0.1:{port}", ttl=3) for port in (1, 2, 3)]


class _Unfinished(ConnectionPool):
    def make_connection(self) -> Any:
        raise NotImplementedError("not yet")


SOURCES: dict[str, tuple[Callable[[], Any], type[Exception]]] = {
    "one": (lambda: redis_asyncio.from_url("redis://127.0.0.1:1", ttl=3), TypeError),
    "sentinel": (_sentinel, TypeError),
    "quorum": (_several, TypeError),
    "value": (
        lambda: redis_asyncio.from_url("redis://127.0.0.1:1", protocol=9),
        redis_asyncio.RedisError,
    ),
    "pool": (lambda: Redis(connection_pool=_Unfinished(host="127.0.0.1")), NotImplementedError),
}


@pytest.mark.parametrize(("make", "error"), SOURCES.values(), ids=SOURCES)
async def test_a_lock_on_such_a_client_raises_it_at_its_first_use(
    make: Callable[[], Any], error: type[Exception]
) -> None:
    """The error is redis-py's own, and nothing is retried."""
    with fail_after(5):
        lock = AsyncLock(make(), "n")
        for use in (lock.acquire, lock.try_acquire, lock.locked, lock.inspect):
            with pytest.raises(error):
                await use()
        with pytest.raises(error):
            async with lock:
                pass
        with pytest.raises(error):
            async with lock.hold(timeout=1):
                pass


async def test_the_same_through_the_lock_of_redis_py() -> None:
    """A drop-in lock fails as the one that it stands for."""
    with fail_after(5), pytest.raises(TypeError):
        await RedisPyLock(SOURCES["one"][0](), "n", timeout=3).acquire()


@pytest.mark.parametrize(
    "options",
    [{"socket_connect_timeout": "3"}, {"host": 5, "port": 1}, {"username": object()}],
    ids=["timeout", "host", "username"],
)
async def test_a_value_of_the_wrong_type_ends_the_first_try(
    options: dict[str, Any], redis_url: str
) -> None:
    """redis-py takes it, and fails as it connects: that is no outage either."""
    redis = redis_asyncio.from_url(redis_url)
    redis.connection_pool.connection_kwargs.update(options)
    async with LockClient(redis) as locks:
        with fail_after(5), pytest.raises(StoreUnavailable) as caught:
            await asyncio.create_task(locks.lock("n").acquire())
        assert caught.value.__cause__ is caught.value.causes[0]
    await redis.aclose()
