"""Clients of redis-py by URL: one builder for each scheme.

=========================  ====================================================
``redis://``, ``unix://``  as redis-py takes them; ``rediss://`` is TLS
``redis+sentinel://``      ``user:password@host:port,host,…/master?db=0&…``
``redis+cluster://``       ``user:password@host:port,host,…?…``
=========================  ====================================================

``rediss+sentinel://`` and ``rediss+cluster://`` are the same over TLS.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import parse_url
from redis.asyncio.sentinel import Sentinel

SENTINEL_PORT = 26379
REDIS_PORT = 6379

_HOST = re.compile(
    r"(?:\[(?P<ipv6>[0-9A-Fa-f:.%]+)\]|(?P<name>[^\[\]:\s]+))(?::(?P<port>\d{1,5}))?"
)

_SENTINEL = "expected redis+sentinel://[user:password@]host[:port][,host…]/master[?db=0&…]"
_CLUSTER = "expected redis+cluster://[user:password@]host[:port][,host…][?…]"

_SENTINEL_CREDENTIALS = {"sentinel_username": "username", "sentinel_password": "password"}


def client_from_url(url: str, **options: Any) -> Redis | RedisCluster:
    """
    Build a redis-py client for the deployment that a URL names by its scheme.

    :param options: win over what the URL says
    :raises ValueError: if the URL is wrong; the message does not show it, because it may
        contain a password
    """
    build = _BUILDERS.get(url.partition("://")[0].lower())
    if build is not None:
        return build(url, **options)
    client: Redis = Redis.from_url(url, **options)
    return client


class _Several(NamedTuple):
    """What a URL says that names several hosts."""

    hosts: list[tuple[str, int]]
    path: str
    settings: dict[str, Any]


def _read(url: str, default_port: int, expected: str) -> _Several:
    parts = None
    with contextlib.suppress(ValueError):
        # What it says of a host that it cannot read may show the password before it.
        parts = urlsplit(url)
    if parts is None:
        raise ValueError(f"the URL cannot be read: {expected}")
    credentials, _, hosts = parts.netloc.rpartition("@")
    addresses = [_address(host, default_port, expected) for host in hosts.split(",")]
    # redis-py converts the parameters, as for its own URLs.
    settings: dict[str, Any] = dict(parse_url(f"redis://host?{parts.query}"))
    settings.pop("host", None)
    user, _, password = credentials.partition(":")
    settings |= {"username": unquote(user)} if user else {}
    settings |= {"password": unquote(password)} if password else {}
    settings |= {"ssl": True} if parts.scheme.startswith("rediss") else {}
    return _Several(addresses, unquote(parts.path.removeprefix("/")), settings)


def _address(host: str, default_port: int, expected: str) -> tuple[str, int]:
    found = _HOST.fullmatch(host)
    port = int(found["port"] or default_port) if found else 0
    if found is None or not 0 < port < 65536:
        raise ValueError(f"{host!r} is no host[:port]: {expected}")
    return unquote(found["ipv6"] or found["name"]), port


def _sentinel(url: str, **options: Any) -> Redis:
    sentinels, master, found = _read(url, SENTINEL_PORT, _SENTINEL)
    if not master or "/" in master:
        raise ValueError(f"the URL's path must be the master's name: {_SENTINEL}")
    found |= options
    of_sentinels = {
        ours: found.pop(name) for name, ours in _SENTINEL_CREDENTIALS.items() if name in found
    }
    shared = {name: value for name, value in found.items() if name.startswith(("socket_", "ssl"))}
    manager = Sentinel(sentinels, sentinel_kwargs=shared | of_sentinels)  # type: ignore[no-untyped-call]  # redis-py's
    client: Redis = manager.master_for(master, **found)
    return client


def _cluster(url: str, **options: Any) -> RedisCluster:
    hosts, path, found = _read(url, REDIS_PORT, _CLUSTER)
    if path or found.pop("db", 0):
        raise ValueError(f"a cluster has no databases, leave the URL's path empty: {_CLUSTER}")
    nodes = [ClusterNode(host, port) for host, port in hosts]
    return RedisCluster(startup_nodes=nodes, **(found | options))


_BUILDERS: dict[str, Callable[..., Redis | RedisCluster]] = {
    "redis+sentinel": _sentinel,
    "rediss+sentinel": _sentinel,
    "redis+cluster": _cluster,
    "rediss+cluster": _cluster,
}
