"""What a quorum is made of, checked before any I/O; and which locks share a client."""

import asyncio
import gc
from collections.abc import Callable
from typing import Any

import pytest
import redis as redis_sync
from redis.asyncio import Redis

from aiodistlock import AsyncLock, LockClient, ReadWriteLock
from aiodistlock.engines import shared_engines


def _nodes(count: int) -> list[Redis]:
    return [Redis(port=port) for port in range(1, count + 1)]


@pytest.mark.parametrize("make", [LockClient, lambda nodes: AsyncLock(nodes, "a")])
def test_no_node_is_a_value_error(make: Any) -> None:
    """An empty sequence says what is needed."""
    with pytest.raises(ValueError, match="at least one"):
        make([])


@pytest.mark.parametrize("make", [LockClient, lambda nodes: AsyncLock(nodes, "a")])
def test_a_node_twice_is_a_value_error(make: Any) -> None:
    """The same client object would vote twice."""
    node, other = _nodes(2)
    with pytest.raises(ValueError, match="twice"):
        make([node, other, node])


@pytest.mark.parametrize("wrong", ["redis://localhost", b"x", [Redis()], 3, redis_sync.Redis()])
def test_what_is_no_client_is_a_type_error(wrong: Any) -> None:
    """Each member must be an asyncio client; a text is no sequence of them."""
    with pytest.raises(TypeError, match="expected"):
        LockClient([Redis(), wrong])
    if not isinstance(wrong, list):
        with pytest.raises(TypeError, match="expected"):
            LockClient(wrong)


@pytest.mark.parametrize("count", range(1, 7))
def test_any_number_of_nodes_is_allowed(count: int) -> None:
    """Odd or even, and one alone."""
    AsyncLock(_nodes(count), "a")
    AsyncLock(tuple(_nodes(count)), "a")


def test_a_ttl_beyond_the_quarantine_is_refused() -> None:
    """A node could count again before a lease that it has forgotten is over."""
    with pytest.raises(ValueError, match="quarantine"):
        AsyncLock(_nodes(3), "a", ttl=61.0)
    with pytest.raises(ValueError, match="quarantine"):
        LockClient(_nodes(3), quarantine=5.0).lock("a", ttl=6.0)
    LockClient(_nodes(3), quarantine=90.0).lock("a", ttl=61.0)
    AsyncLock(Redis(), "a", ttl=61.0)


async def test_locks_on_the_same_nodes_share_a_client() -> None:
    """The same objects in the same order share; others do not, nor one node alone."""
    one, other, third = _nodes(3)
    client = shared_engines((one, other))
    assert shared_engines((one, other)) is client
    found = {client, shared_engines((one, third)), shared_engines((one,)), shared_engines(one)}
    assert len(found) == 4


def test_a_shared_client_goes_with_its_nodes() -> None:
    """Nothing here keeps the user's client objects alive."""
    import weakref

    async def use() -> list[Any]:
        nodes = _nodes(2)
        shared_engines(tuple(nodes))
        return [weakref.ref(node) for node in nodes]

    refs = asyncio.run(use())
    gc.collect()
    assert [ref() for ref in refs] == [None, None]


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda locks: locks.semaphore("gpu", 2), "all three have a majority"),
        (lambda locks: locks.rwlock("doc"), "no single node knows who reads"),
    ],
    ids=["semaphore", "read/write lock"],
)
def test_what_a_quorum_cannot_have_is_refused_with_the_reason(
    make: Callable[[LockClient], object], why: str
) -> None:
    """Where it is made, without an event loop: so before any I/O."""
    locks = LockClient.from_url([f"redis://localhost:{port}" for port in (1, 2, 3)])
    with pytest.raises(ValueError, match=why):
        make(locks)


def test_a_read_write_lock_on_nodes_is_refused_as_well() -> None:
    """Where it is built on redis-py's clients, without a client of ours."""
    with pytest.raises(ValueError, match="no single node knows who reads"):
        ReadWriteLock(_nodes(3), "doc")
