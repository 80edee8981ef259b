"""What the user's URLs name.

Errors never quote a URL: it may hold a password, also where it is no URL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from redis.asyncio import ConnectionPool
from redis.asyncio.connection import SSLConnection, parse_url

from aiodistlock.console.errors import CommandError
from aiodistlock.deployments.urls import (
    REDIS_PORT,
    UrlError,
    as_redis,
    read_cluster,
    read_sentinels,
    split,
)

from .facts import Kind

_NO_URL = (
    "which Redis? Set REDIS_URL to redis://localhost:6379, or give --redis-url-file or --redis; "
    "several URLs are the nodes of a quorum"
)
_KNOWN = (
    "redis://host:port, rediss://host:port, unix:///path, redis+sentinel://h1,h2,h3/service "
    "or redis+cluster://h1,h2 (or the same with valkey)"
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """
    One server and how to reach it.

    :param place: what to call it in front of the user
    :param options: of redis-py's ConnectionPool; secrets are in here
    """

    place: str
    options: Mapping[str, Any] = field(repr=False)

    def at(self, host: str, port: int) -> Endpoint:
        """Return another server that is reached in the same way."""
        return replace(
            self, place=_joined(host, port), options={**self.options, "host": host, "port": port}
        )

    def pool(self, timeout: float) -> ConnectionPool:
        """Return a pool whose factory makes our connections; nothing is opened yet."""
        # RESP2: replies have one shape whatever the server; RESP3 is probed by HELLO.
        ours = {"protocol": 2, "socket_connect_timeout": timeout}
        return ConnectionPool(**{**self.options, **ours})


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """
    What to examine.

    :param endpoints: the Redis, the nodes of a quorum, the seeds of a Cluster, or the
        Sentinels
    :param service: what the Sentinels call the primary
    :param redis: how to reach the Redis that Sentinels name
    """

    kind: Kind
    endpoints: Sequence[Endpoint]
    service: str = ""
    redis: Endpoint | None = None


def parse(urls: Sequence[str]) -> Target:
    """
    Tell what the URLs name: one deployment, or the nodes of a quorum.

    :raises CommandError: if there is none, one is no URL of Redis, or they cannot stand together
    """
    if not urls:
        raise CommandError(_NO_URL)
    targets = [_parse_one(url, number) for number, url in enumerate(urls, 1)]
    if len(targets) == 1:
        return targets[0]
    if any(target.kind is not Kind.SINGLE for target in targets):
        raise CommandError(
            "several URLs are the nodes of a quorum: each must be one Redis, "
            "no Sentinel and no Cluster"
        )
    return Target(kind=Kind.QUORUM, endpoints=[target.endpoints[0] for target in targets])


def _parse_one(url: str, number: int) -> Target:
    try:
        return _target(url)
    except UrlError as error:
        raise CommandError(f"URL {number} is no URL of Redis: {error}") from None
    except (ValueError, TypeError):
        # What redis-py says may quote the URL: only our own words get out.
        raise CommandError(f"URL {number} is no URL of Redis: write {_KNOWN}") from None


def _target(url: str) -> Target:
    parts = split(url)
    scheme, _, flavour = parts.scheme.partition("+")
    if flavour == "sentinel" and scheme in ("redis", "rediss"):
        found = read_sentinels(url)
        return Target(
            kind=Kind.SENTINEL,
            endpoints=[_endpoint(*each, found.of_sentinels) for each in found.hosts],
            service=found.master,
            # Whichever they name: the address is put in then.
            redis=_endpoint(*found.hosts[0], found.settings),
        )
    if flavour == "cluster" and scheme in ("redis", "rediss"):
        seeds = read_cluster(url)
        endpoints = [_endpoint(*each, seeds.settings) for each in seeds.hosts]
        return Target(kind=Kind.CLUSTER, endpoints=endpoints)
    if flavour or scheme not in ("redis", "rediss", "unix"):
        raise UrlError(f"write {_KNOWN}")
    return Target(kind=Kind.SINGLE, endpoints=[_single(as_redis(url))])


def _single(url: str) -> Endpoint:
    options: dict[str, Any] = dict(parse_url(url))
    if "path" in options:
        return _checked(Endpoint(f"unix:{options['path']}", options))
    return _endpoint(options.get("host", "localhost"), options.get("port", REDIS_PORT), options)


def _endpoint(host: str, port: int, settings: Mapping[str, Any]) -> Endpoint:
    options = {**settings, "host": host, "port": port}
    if options.pop("ssl", False):
        options["connection_class"] = SSLConnection
    return _checked(Endpoint(_joined(host, port), options))


def _checked(endpoint: Endpoint) -> Endpoint:
    """Have redis-py refuse options that it does not know, before any I/O."""
    endpoint.pool(1.0).make_connection()  # type: ignore[no-untyped-call]  # redis-py's
    return endpoint


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
