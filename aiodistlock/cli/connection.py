"""From the user's URLs to clients; what goes wrong on the way is one line.

No message here quotes a URL or what redis-py says of one: it may hold a password.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.connection import SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisClusterException, RedisError, ResponseError

from aiodistlock import LockClient
from aiodistlock.console.errors import EXIT_UNAVAILABLE, EXIT_USAGE, CommandError
from aiodistlock.core.escaping import message_of
from aiodistlock.core.keys import LockKeys
from aiodistlock.core.options import ClientOptions
from aiodistlock.deployments.urls import client_from_url

_UNUSABLE = "a URL has an option that redis-py does not know, or a value that it cannot read"


def urls_of(given: Sequence[str] | None, file: Path | None) -> Sequence[str]:
    """
    Return the URLs that the user means: those given, those in the file, or ``REDIS_URL``.

    :raises CommandError: if there are both, or the file has none
    """
    if given and file is not None:
        raise CommandError("give URLs, or --redis-url-file, but not both", EXIT_USAGE)
    if given or file is None:
        return given or os.environ.get("REDIS_URL", "").split()
    try:
        urls = file.read_text().split()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise CommandError(f"--redis-url-file {file}: {why}", EXIT_USAGE) from None
    if not urls:
        raise CommandError(f"--redis-url-file {file}: there is no URL in it", EXIT_USAGE)
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
        if len(clients) == 1 and (cluster := await _cluster_around(clients[0])) is not None:
            clients = [await stack.enter_async_context(cluster)]
        yield clients


async def _cluster_around(client: Redis | RedisCluster) -> RedisCluster | None:
    """
    Return a client of the Cluster that a single node belongs to, ``None`` if there is none.

    The node would tell of its own locks only, as if there were no others.
    """
    if isinstance(client, RedisCluster):
        return None
    with reaching():
        try:
            told: Any = await client.info("cluster")
        except ResponseError:  # forbidden
            return None
    if not told.get("cluster_enabled"):
        return None
    known = inspect.signature(RedisCluster).parameters
    pool = client.connection_pool
    kwargs = {key: value for key, value in pool.connection_kwargs.items() if key in known}
    encrypted = issubclass(pool.connection_class, SSLConnection)
    return RedisCluster(**{**kwargs, "db": 0, "ssl": encrypted})


@contextmanager
def _usable() -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, RedisError):
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
        told = message_of(error) or type(error).__name__
        raise CommandError(f"Redis is unavailable: {told}", EXIT_UNAVAILABLE) from None
