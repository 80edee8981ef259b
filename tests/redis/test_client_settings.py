"""Locks work whatever the settings of the user's client, and do not disturb its use."""

import asyncio
from typing import Any

import pytest
from anyio import fail_after
from redis.asyncio import BlockingConnectionPool, Connection, ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff

from aiodistlock import AsyncLock, LockClient
from aiodistlock.waiting.pauses import MAX_PAUSE
from tests.redis.clients import NEVER, closing, connections, exchange, pair

SETTINGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "decode_responses": {"decode_responses": True},
    "protocol 2": {"protocol": 2},
    "protocol 3": {"protocol": 3},
    "protocol 2, decoded": {"protocol": 2, "decode_responses": True},
    "latin-1": {"encoding": "latin-1", "decode_responses": True},
    "latin-1, protocol 2": {"encoding": "latin-1", "decode_responses": True, "protocol": 2},
    "utf-16": {"encoding": "utf-16"},
    "utf-16, protocol 2": {"encoding": "utf-16", "protocol": 2},
    "ascii, strict": {"encoding": "ascii", "encoding_errors": "strict"},
    "no socket timeout": {"socket_timeout": None, "socket_connect_timeout": None},
    "tiny socket timeout": {"socket_timeout": 0.01},
    "tiny socket timeout, protocol 2": {"socket_timeout": 0.01, "protocol": 2},
    "health checks": {"health_check_interval": 0.02},
    "retries": {"retry": Retry(ExponentialBackoff(), 10), "retry_on_timeout": True},
    "client name": {"client_name": "service"},
    "one connection": {"max_connections": 1},
    "single connection client": {"single_connection_client": True},
    "keep-alive": {"socket_keepalive": True},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
async def test_locks_work_with(redis_url: str, namespace: str, settings: dict[str, Any]) -> None:
    """Two clients with these settings hold, wait and hand over, by message."""
    async with pair(redis_url, **settings) as (one, other):
        await exchange(one, other, namespace)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
async def test_the_users_own_commands_go_on_with(
    redis_url: str, namespace: str, settings: dict[str, Any]
) -> None:
    """What the user does with the same client meanwhile is not affected, nor affects us."""
    if settings.get("socket_timeout") == 0.01:
        settings = {**settings, "socket_timeout": 5}
    async with pair(redis_url, **settings) as (one, other):
        stored = "value".encode(settings.get("encoding", "utf-8"))
        expected = "value" if settings.get("decode_responses") else stored
        key = f"{namespace}user"

        async def use() -> None:
            for _ in range(20):
                await one.set(key, "value")
                assert await one.get(key) == expected
            assert await one.delete(key) == 1

        async with AsyncLock(one, "held", namespace=namespace) as lease:
            await asyncio.gather(use(), exchange(one, other, namespace))
            assert lease.is_held


@pytest.mark.parametrize("protocol", [2, 3])
async def test_who_has_only_passed_a_lock_on_hears_that_it_comes_back(
    redis_url: str, namespace: str, protocol: int
) -> None:
    """By message, though it had never to wait before, and so never listened."""
    async with (
        pair(redis_url, protocol=protocol) as (one, other),
        LockClient(one, handoff_span=0.0) as here,
        LockClient(other, claim_window=30.0) as there,
    ):
        ours = here.lock("n", namespace=namespace, ttl=40.0, backoff=NEVER)
        theirs = there.lock("n", namespace=namespace, ttl=40.0, backoff=NEVER)

        async def visit(lock: AsyncLock) -> None:
            async with lock:
                pass

        async with ours:
            visits = [asyncio.create_task(visit(lock)) for lock in (theirs, ours)]
            while await one.zcard(f"aiodistlock:queue:{{{namespace}n}}") != 1:
                await asyncio.sleep(0.005)
        with fail_after(0.5 * MAX_PAUSE):
            await asyncio.gather(*visits)


@pytest.mark.parametrize("protocol", [2, 3])
async def test_an_exhausted_pool_is_no_obstacle(
    redis_url: str, namespace: str, protocol: int
) -> None:
    """With a pool of one connection that the user keeps, locks have their own."""
    async with pair(redis_url, max_connections=1, protocol=protocol) as (one, other):
        # redis-py's pool is not typed.
        taken = await one.connection_pool.get_connection()  # type: ignore[no-untyped-call]
        try:
            await exchange(one, other, namespace)
        finally:
            await one.connection_pool.release(taken)


async def test_a_blocking_pool_is_no_obstacle(redis_url: str, namespace: str) -> None:
    """A pool that makes its users wait for a connection does not make locks wait."""
    pools = [
        BlockingConnectionPool.from_url(redis_url, max_connections=1, timeout=60) for _ in range(2)
    ]
    async with (
        closing(Redis(connection_pool=pools[0])) as one,
        closing(Redis(connection_pool=pools[1])) as other,
    ):
        # redis-py's pools are not typed.
        taken = [await pool.get_connection() for pool in pools]  # type: ignore[no-untyped-call]
        with fail_after(10):
            await exchange(one, other, namespace)
        for pool, connection in zip(pools, taken, strict=True):
            await pool.release(connection)
    for pool in pools:
        await pool.aclose()


async def test_a_client_from_a_pool(redis_url: str, namespace: str) -> None:
    """A client that owns its pool, or one pool shared by two clients, serve as well."""
    pool: ConnectionPool = ConnectionPool.from_url(redis_url)
    async with (
        closing(Redis(connection_pool=pool)) as one,
        closing(Redis.from_pool(ConnectionPool.from_url(redis_url))) as other,
    ):
        await exchange(one, other, namespace)
    await pool.aclose()


class ProtocolAsText(Connection):
    """A connection of redis-py 6 or 7 whose protocol comes from a URL."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.protocol: Any = str(self.protocol)


@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_protocol_kept_as_text_is_understood(
    redis_url: str, namespace: str, protocol: int
) -> None:
    """Grants are heard, in whichever way redis-py keeps what a URL says."""
    settings = {"connection_class": ProtocolAsText, "protocol": protocol}
    async with pair(redis_url, **settings) as (one, other):
        await exchange(one, other, namespace)


async def test_subscriptions_of_the_user_are_undisturbed(redis_url: str, namespace: str) -> None:
    """The user's own pub/sub hears what is meant for it, and only that."""
    async with pair(redis_url) as (one, other):
        pubsub = one.pubsub()
        async with pubsub:
            await pubsub.subscribe(f"{namespace}news")
            await exchange(one, other, namespace)
            await other.publish(f"{namespace}news", "hello")
            messages: list[tuple[str, object]] = []
            with fail_after(5):
                while len(messages) < 2:
                    if message := await pubsub.get_message(timeout=1.0):
                        messages.append((message["type"], message["data"]))
        assert messages == [("subscribe", 1), ("message", b"hello")]


async def test_closing_the_users_client_leaves_a_lease_alone(
    redis_url: str, namespace: str
) -> None:
    """The locks' connection is not of the user's pool: closing that harms no lease."""
    async with (
        closing(Redis.from_url(redis_url)) as redis,
        AsyncLock(redis, "wallet", namespace=namespace) as lease,
    ):
        await redis.aclose()
        await redis.connection_pool.disconnect()
        await lease.extend(5.0)
        assert lease.is_held


async def test_from_url_takes_both_kinds_of_options(redis_url: str, namespace: str) -> None:
    """``from_url`` sorts our options from redis-py's, and closes what it opened."""
    name = f"{namespace.strip(':').replace(':', '-')}"
    client = LockClient.from_url(
        redis_url, label="worker-7", handoff_span=0.01, client_name=name, decode_responses=True
    )
    assert client.options.label == "worker-7"
    assert client.options.handoff_span == 0.01
    async with Redis.from_url(redis_url) as redis:
        async with client, client.lock("wallet", namespace=namespace) as lease:
            assert lease.token.startswith("worker-7:")
            stored = await redis.get(f"{namespace}wallet")
            assert stored == lease._process_lease.value
            assert await connections(redis, name) == 1
        with fail_after(5):
            while await connections(redis, name):
                await asyncio.sleep(0)


@pytest.mark.parametrize("url", ["http://localhost", "localhost:6379", "", "redis://x:port"])
def test_a_wrong_url_is_a_value_error(url: str) -> None:
    """A URL that cannot be right is refused before any I/O."""
    with pytest.raises(ValueError, match=r"\w"):
        LockClient.from_url(url)
