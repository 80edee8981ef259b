"""Fixtures: clients of two processes, as the locks see it, and redis-py's lock beside ours."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from redis.asyncio.lock import Lock

from aiodistlock.compat import RedisPyLock
from tests.redis.clients import pair


@pytest.fixture(params=[Lock, RedisPyLock], ids=["theirs", "ours"])
def lock_class(request: pytest.FixtureRequest) -> type[Lock]:
    """redis-py's own lock, then ours: what a test says is true of both."""
    found: type[Lock] = request.param
    return found


@pytest.fixture
async def clients(redis_url: str) -> AsyncIterator[tuple[Redis, Redis]]:
    """Two clients, as two processes have."""
    async with pair(redis_url) as both:
        yield both


@pytest.fixture
def here(clients: tuple[Redis, Redis]) -> Redis:
    """One of them."""
    return clients[0]


@pytest.fixture
def there(clients: tuple[Redis, Redis]) -> Redis:
    """The other."""
    return clients[1]


@pytest.fixture
def name(namespace: str) -> str:
    """A key of the test's own."""
    return f"{namespace}wallet:42"
