"""Credentials that a provider announces: they reach the connections of the locks."""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import redis.asyncio as redis_asyncio
from redis.auth.token import SimpleToken
from redis.credentials import StreamingCredentialProvider

from aiodistlock import LockClient
from aiodistlock.testing.embedded import EmbeddedRedis
from tests.deployments.cluster import Cluster
from tests.deployments.quorum import Nodes
from tests.deployments.rotation import RIGHTS, Guarded, guarded
from tests.deployments.world import name_on
from tests.faults.world import PATIENT, eventually, waiters

pytestmark = pytest.mark.bounded(60)


class Streaming(StreamingCredentialProvider):
    """Has room for one listener, as that of Entra ID has."""

    def __init__(self, *now: str) -> None:
        self.now = now
        self._listener: Callable[[Any], Any] | None = None

    def get_credentials(self) -> tuple[str, str]:
        """Return user and password."""
        return self.now[0], self.now[1]

    async def get_credentials_async(self) -> tuple[str, str]:
        """Return user and password."""
        return self.get_credentials()

    def on_next(self, callback: Callable[[Any], Any]) -> None:
        """Have one listener told of new credentials."""
        self._listener = callback

    def on_error(self, callback: Callable[[Exception], Any]) -> None:
        """Tell nobody of errors: there are none."""

    def is_streaming(self) -> bool:
        """Say yes."""
        return True

    async def announce(self, user: str, password: str) -> None:
        """Have new credentials."""
        self.now = (user, password)
        assert self._listener is not None
        token = SimpleToken(
            value=password, expires_at_ms=1e15, received_at_ms=0, claims={"oid": user}
        )
        await self._listener(token)


@pytest.fixture
def one(embedded_redis: EmbeddedRedis) -> Iterator[Guarded]:
    """One server with two users."""
    with guarded(embedded_redis.url, [embedded_redis.url]) as place:
        place.acl("reset", "on", ">new", *RIGHTS, user="other")
        yield place


async def _users(url: str) -> set[str]:
    async with redis_asyncio.from_url(url) as redis:
        return {each["user"] for each in await redis.client_list()} - {"default"}


@pytest.mark.parametrize("built", ["from_url", "Redis"])
@pytest.mark.parametrize("protocol", [2, 3])
async def test_announced_credentials_reach_the_connections_of_the_locks(
    one: Guarded, embedded_redis: EmbeddedRedis, protocol: int, built: str
) -> None:
    """All of them, the inbox of RESP2 as well; the lease is kept, and grants go on by message."""
    provider = Streaming("locker", "old")
    options: dict[str, Any] = {"credential_provider": provider, "protocol": protocol}
    make: Callable[..., redis_asyncio.Redis] = partial(redis_asyncio.from_url, embedded_redis.url)
    if built == "Redis":
        make = partial(redis_asyncio.Redis, port=embedded_redis.port)
    async with (
        make(**options) as redis,
        redis_asyncio.from_url(embedded_redis.url) as admin,
        LockClient(redis) as here,
        LockClient(redis) as there,
    ):
        await redis.ping()  # type: ignore[misc, unused-ignore]  # in older redis-py
        holding = await here.lock("n", ttl=30.0).acquire()
        waiting = asyncio.create_task(there.lock("n", ttl=30.0, backoff=PATIENT).acquire())
        await eventually(lambda: waiters(admin, "lock:", "n"), 1)
        await provider.announce("other", "new")
        await eventually(lambda: _users(embedded_redis.url), {"other"})
        one.everywhere("ACL", "DELUSER", "locker")
        await holding.extend(30.0)
        again = asyncio.create_task(there.lock("warm").acquire())
        await (await again).release()
        await holding.release()
        async with asyncio.timeout(PATIENT.initial / 2):
            await (await waiting).release()


async def test_they_reach_each_node_of_a_quorum(nodes: Nodes) -> None:
    """Each node's pool has a provider of its own, or they share one that tells them all."""
    urls = nodes.urls[:3]
    with guarded(urls, urls) as place:
        place.acl("reset", "on", ">new", *RIGHTS, user="other")
        providers = [Streaming("locker", "old") for _ in urls]
        clients = [
            redis_asyncio.from_url(url, credential_provider=provider)
            for url, provider in zip(urls, providers, strict=True)
        ]
        async with LockClient(clients) as locks:
            lease = await locks.lock("n", ttl=10.0).acquire(timeout=15)
            for provider in providers:
                await provider.announce("other", "new")
            for url in urls:
                await eventually(partial(_users, url), {"other"})
            await lease.extend(10.0)
            await lease.release()
        for client in clients:
            await client.aclose()


@pytest.mark.parametrize("when", ["never", "before", "after"])
async def test_they_reach_each_node_of_a_cluster(cluster: Cluster, when: str) -> None:
    """And the user's own connections, whenever redis-py registered for those, if at all."""
    urls = [node.server.url for node in cluster.nodes]
    with guarded(cluster.url, urls) as place:
        place.acl("reset", "on", ">new", *RIGHTS, user="other")
        provider = Streaming("locker", "old")
        redis = cluster.client(credential_provider=provider)
        if when == "before":
            await redis.ping(target_nodes="all")
        async with LockClient(redis) as locks:
            names = [name_on(cluster, node, "lock:") for node in cluster.primaries()]
            leases = [await locks.lock(name, ttl=30.0).acquire() for name in names]
            if when == "after":
                await redis.ping(target_nodes="all")
            await provider.announce("other", "new")
            for url in urls:
                await eventually(partial(_behind, url), 0)
            place.everywhere("ACL", "DELUSER", "locker")
            for lease in leases:
                await lease.extend(30.0)
                await lease.release()
        await redis.aclose()


async def _behind(url: str) -> int:
    """Return how many connections that ran a script, or were pinged, have not heard of it."""
    async with redis_asyncio.from_url(url) as redis:
        found = await redis.client_list()
    used = [each for each in found if each["cmd"] in ("eval", "evalsha", "ping")]
    return sum(each["user"] == "locker" for each in used)


async def test_an_announcement_after_the_client_is_closed_is_nothing(
    one: Guarded, embedded_redis: EmbeddedRedis
) -> None:
    """Neither an error nor a connection."""
    provider = Streaming("locker", "old")
    client = redis_asyncio.from_url(embedded_redis.url, credential_provider=provider)
    async with LockClient(client) as locks:
        await (await locks.lock("n").acquire()).release()
    await provider.announce("other", "new")
    assert await _users(embedded_redis.url) == set()
    await client.aclose()
