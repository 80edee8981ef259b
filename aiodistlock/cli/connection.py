"""From the user's URLs to clients; what goes wrong on the way is one line.

No message here quotes a URL or what redis-py says of one: it may hold a password.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisClusterException, RedisError

from aiodistlock import LockClient
from aiodistlock.core.keys import LockKeys
from aiodistlock.core.options import ClientOptions
from aiodistlock.stores.urls import client_from_url

from .doctor.targets import parse
from .errors import EXIT_UNAVAILABLE, EXIT_USAGE, CommandError

_NO_URL = (
    "which Redis? Give --redis redis://localhost:6379, or set REDIS_URL; several are the "
    "nodes of a quorum"
)
_UNUSABLE = "a URL has an option that redis-py does not know, or a value that it cannot read"


def check_urls(urls: Sequence[str] | None) -> Sequence[str]:
    """
    Check what the user gave, before any I/O.

    :raises CommandError: if it is nothing
    :raises DoctorError: if one is no URL of Redis, or they cannot stand together
    """
    if not urls:
        raise CommandError(_NO_URL, EXIT_USAGE)
    parse(urls)
    return urls


def check_keys(name: str, namespace: str) -> LockKeys:
    """
    Return the keys of a lock.

    :raises CommandError: if name or namespace cannot be used
    """
    try:
        return LockKeys(name, namespace)
    except ValueError as error:
        raise CommandError(str(error), EXIT_USAGE) from None


def lock_client(urls: Sequence[str], **options: Any) -> LockClient:
    """
    Build the client that holds locks, on one deployment or on a quorum.

    :raises CommandError: if a URL or an option is wrong
    """
    try:
        ClientOptions(**options)
    except ValueError as error:
        raise CommandError(str(error), EXIT_USAGE) from None
    with _usable():
        return LockClient.from_url(urls[0] if len(urls) == 1 else urls, **options)


@asynccontextmanager
async def redis_clients(
    urls: Sequence[str], timeout: float
) -> AsyncIterator[Sequence[Redis | RedisCluster]]:
    """
    Open a client of redis-py for each URL; they connect when they are used.

    :param timeout: seconds for which each connection and answer is waited for
    """
    settings: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": Retry(NoBackoff(), 0),
        "decode_responses": False,
    }
    async with AsyncExitStack() as stack:
        with _usable():
            clients = [client_from_url(url, **settings) for url in urls]
        for client in clients:
            stack.push_async_callback(client.aclose)
        yield clients


@contextmanager
def _usable() -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError):
        raise CommandError(_UNUSABLE, EXIT_USAGE) from None


@contextmanager
def reaching() -> Iterator[None]:
    """
    Tell in one line that Redis fails; each answer is bounded by the client's timeout.

    :raises CommandError: if Redis cannot be reached, refuses, or is silent
    """
    try:
        yield
    except (RedisError, RedisClusterException, OSError) as error:
        told = str(error) or type(error).__name__
        raise CommandError(f"Redis is unavailable: {told}", EXIT_UNAVAILABLE) from None
