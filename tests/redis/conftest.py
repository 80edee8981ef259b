"""Fixtures: the scripts on a name of the test's own, on shared and private servers."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import redis as redis_sync

from aiodistlock.testing.embedded import EmbeddedRedis
from tests.redis.driver import Inbox, Scripts


@pytest.fixture
def client(redis_url: str) -> Iterator[redis_sync.Redis]:
    """A synchronous client of the run's server."""
    with redis_sync.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture(params=[False, True], ids=["alone", "batched"])
def batched(request: pytest.FixtureRequest) -> bool:
    """Whether a script runs for itself, or in a batch: it is the same."""
    value: bool = request.param
    return value


@pytest.fixture
def lock(client: redis_sync.Redis, namespace: str, batched: bool) -> Iterator[Scripts]:
    """The scripts on a name that nobody uses, on the run's server."""
    scripts = Scripts(client, f"{namespace}wallet:42", batched=batched)
    yield scripts
    scripts.remove()


@pytest.fixture
def inbox(client: redis_sync.Redis) -> Iterator[Inbox]:
    """An inbox of a live process."""
    with Inbox(client) as inbox:
        yield inbox


@pytest.fixture
def open_inbox(client: redis_sync.Redis) -> Iterator[Callable[[], Inbox]]:
    """Opens inboxes of further live processes."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(Inbox(client))


@pytest.fixture
def private(embedded_redis: EmbeddedRedis, batched: bool) -> Iterator[Scripts]:
    """The scripts on a server of the test's own."""
    with redis_sync.Redis.from_url(embedded_redis.url) as client:
        yield Scripts(client, "lock:wallet:42", batched=batched)


@pytest.fixture
def private_inbox(private: Scripts) -> Iterator[Inbox]:
    """An inbox of a live process on the test's own server."""
    with Inbox(private.client) as inbox:
        yield inbox


@pytest.fixture
def out_of_memory(private: Scripts) -> Callable[[], None]:
    """Takes all memory from the test's own server."""

    def take() -> None:
        private.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
        private.command("CONFIG", "SET", "maxmemory", 1)

    return take
