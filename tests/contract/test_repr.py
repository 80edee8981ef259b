"""What a client and a lock say of themselves."""

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from aiodistlock import AsyncLock, LockClient
from tests.contract.world import World


@pytest.mark.parametrize("options", [{}, {"local_handoffs": 0}], ids=["cohort", "alone"])
async def test_they_tell_connection_holders_and_waiters(
    world: World, first: LockClient, options: dict[str, Any]
) -> None:
    """Before the first use, while held and waited for, and when all is over."""
    lock = world.lock(first, "w", **options)
    assert "not used yet" in repr(first)
    assert "not used yet" in repr(lock)
    async with lock:
        waiting = asyncio.create_task(lock.acquire())
        await asyncio.sleep(0)
        assert "connected, 1 held, 1 waiting>" in repr(first)
        assert "connected, held here, 1 waiting>" in repr(lock)
        assert "not held here, 0 waiting>" in repr(world.lock(first, "other"))
    lease = await waiting
    assert "connected, held here, 0 waiting>" in repr(lock)
    await lease.release()
    assert "not connected" not in repr(first)
    assert "connected, 0 held, 0 waiting>" in repr(first)
    assert "not held here, 0 waiting>" in repr(lock)
    await first.aclose()
    assert repr(first).endswith("closed>")


PLACES = {
    "redis://:s3cret@h:7/2": "h:7, database 2",
    "valkeys://u:s3cret@h": "h:6379",
    "unix:///run/redis.sock?password=s3cret": "/run/redis.sock",
    "redis+sentinel://u:s3cret@a,b:1/my?sentinel_password=s3cret": (
        "'my' of the Sentinels a:26379, b:1"
    ),
    "redis+cluster://u:s3cret@a,b,c,d": "the cluster of a:6379, b:6379, c:6379 and 1 more",
}


@pytest.mark.parametrize("url", PLACES)
def test_they_tell_where_and_no_password(url: str) -> None:
    """Host and port, socket, Sentinels and service, or the first nodes of a cluster."""
    locks = LockClient.from_url(url)
    assert repr(locks) == f"<LockClient on {PLACES[url]}, not used yet>"
    assert PLACES[url] in repr(locks.lock("w"))
    assert "s3cret" not in repr(locks) + repr(locks.lock("w"))


def test_a_quorum_names_its_nodes() -> None:
    """Without a LockClient, too."""
    lock = AsyncLock([Redis(host=each, password="s3cret") for each in "abc"], "w", ttl=5)
    place = "a quorum of a:6379, b:6379, c:6379"
    assert repr(lock) == f"<AsyncLock 'w' on {place}, ttl 5 s, not used yet>"
