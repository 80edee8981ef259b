"""Clients of redis-py by URL: one builder for each scheme.

=========================  ====================================================
``redis://``, ``unix://``  as redis-py takes them; ``rediss://`` is TLS
``redis+sentinel://``      ``user:password@host:port,host,…/master?db=0&…``
``redis+cluster://``       ``user:password@host:port,host,…?…``
=========================  ====================================================

``rediss+sentinel://`` and ``rediss+cluster://`` are the same over TLS; ``valkey`` and
``valkeys`` may stand wherever ``redis`` and ``rediss`` do.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

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


_VALKEY = re.compile(r"^valkey(?=s?(?:\+[a-z]+)?://)")
_SEVERAL = re.compile(r"^(rediss?\+[a-z]+://)([^/?#]*)", re.IGNORECASE)
"""Scheme and hosts; newer Pythons read no list of hosts with an IPv6 address in it."""


class UrlError(ValueError):
    """A URL is wrong; in our own words, which never show it: it may hold a password."""


def client_from_url(url: str, **options: Any) -> Redis | RedisCluster:
    """
    Build a redis-py client for the deployment that a URL names by its scheme.

    :param options: win over what the URL says
    :raises ValueError: if the URL is wrong; the message does not show it, because it may
        contain a password
    """
    url = as_redis(url)
    parts = split(url)
    build = _BUILDERS.get(parts.scheme)
    if build is not None:
        return build(url, **options)
    _check_port(parts)
    client: Redis = Redis.from_url(url, **options)
    return client


def as_redis(url: str) -> str:
    """Return a URL of Valkey as what redis-py takes: a scheme of Redis."""
    return _VALKEY.sub("redis", url, count=1)


def split(url: str) -> SplitResult:
    """
    Split a URL into its parts; the scheme is one of Redis.

    :raises UrlError: if a / ? # in the password makes it look like a host's name
    """
    url = as_redis(url)
    several = _SEVERAL.match(url)
    try:
        if several is None:
            parts = urlsplit(url)
        else:
            scheme, hosts = several.groups()
            readable = re.sub(r"[\[\]]", "", hosts)
            parts = urlsplit(scheme + readable + url[several.end() :])._replace(netloc=hosts)
    except ValueError:
        # What it says of a host that it cannot read may show the password before it.
        parts = None
    if parts is None:
        raise UrlError("the URL cannot be read")
    beyond_host = parts.path + parts.query.partition("=")[0] + parts.fragment
    if "@" in beyond_host and parts.scheme != "unix":
        raise UrlError("the URL cannot be read: percent-encode / ? # in its password")
    return parts


def _check_port(parts: SplitResult) -> None:
    try:
        _ = parts.port
    except ValueError:
        pass  # It shows the port, which is the password where the @ is missing.
    else:
        return
    raise UrlError("the URL's port is no number from 0 to 65535")


class Several(NamedTuple):
    """
    What a URL says that names several hosts.

    :ivar settings: of redis-py's ``Redis``; secrets are in here
    """

    hosts: list[tuple[str, int]]
    path: str
    settings: dict[str, Any]


class SentinelUrl(NamedTuple):
    """
    What a Sentinel URL says.

    :ivar settings: of redis-py's ``Redis``, for the master
    :ivar of_sentinels: the same for the sentinels
    """

    hosts: list[tuple[str, int]]
    master: str
    settings: dict[str, Any]
    of_sentinels: dict[str, Any]


def read_sentinels(url: str, **options: Any) -> SentinelUrl:
    """
    Read a ``redis+sentinel://`` URL.

    :param options: win over what it says
    :raises UrlError: if it is wrong
    """
    sentinels, master, found = _read(url, SENTINEL_PORT, _SENTINEL)
    if not master or "/" in master:
        raise UrlError(f"the URL's path must be the master's name: {_SENTINEL}")
    found |= options
    own = {ours: found.pop(name) for name, ours in _SENTINEL_CREDENTIALS.items() if name in found}
    shared = {name: value for name, value in found.items() if name.startswith(("socket_", "ssl"))}
    return SentinelUrl(sentinels, master, found, shared | own)


def read_cluster(url: str, **options: Any) -> Several:
    """
    Read a ``redis+cluster://`` URL.

    :param options: win over what it says
    :raises UrlError: if it is wrong
    """
    hosts, path, found = _read(url, REDIS_PORT, _CLUSTER)
    if path or found.pop("db", 0):
        raise UrlError(f"a cluster has no databases, leave the URL's path empty: {_CLUSTER}")
    return Several(hosts, path, found | options)


def _read(url: str, default_port: int, expected: str) -> Several:
    parts = split(url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    addresses = [
        _address(number, host, default_port, expected)
        for number, host in enumerate(hosts.split(","), 1)
    ]
    # redis-py converts the parameters, as for its own URLs.
    settings: dict[str, Any] = dict(parse_url(f"redis://host?{parts.query}"))
    settings.pop("host", None)
    user, _, password = credentials.partition(":")
    settings |= {"username": unquote(user)} if user else {}
    settings |= {"password": unquote(password)} if password else {}
    settings |= {"ssl": True} if parts.scheme.startswith("rediss") else {}
    return Several(addresses, unquote(parts.path.removeprefix("/")), settings)


def _address(number: int, host: str, default_port: int, expected: str) -> tuple[str, int]:
    found = _HOST.fullmatch(host)
    port = int(found["port"] or default_port) if found else 0
    if found is None or not 0 < port < 65536:
        raise UrlError(f"host {number} of the URL is no host[:port]: {expected}")
    return unquote(found["ipv6"] or found["name"]), port


def _sentinel(url: str, **options: Any) -> Redis:
    sentinels, master, settings, own = read_sentinels(url, **options)
    manager = Sentinel(sentinels, sentinel_kwargs=own)  # type: ignore[no-untyped-call]  # redis-py's
    client: Redis = manager.master_for(master, **settings)
    return client


def _cluster(url: str, **options: Any) -> RedisCluster:
    hosts, _, settings = read_cluster(url, **options)
    nodes = [ClusterNode(host, port) for host, port in hosts]
    return RedisCluster(startup_nodes=nodes, **settings)


_BUILDERS: dict[str, Callable[..., Redis | RedisCluster]] = {
    "redis+sentinel": _sentinel,
    "rediss+sentinel": _sentinel,
    "redis+cluster": _cluster,
    "rediss+cluster": _cluster,
}
