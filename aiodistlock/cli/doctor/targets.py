"""What the user's URLs name.

Errors never quote a URL: it may hold a password, also where it is no URL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from redis.asyncio import ConnectionPool
from redis.asyncio.connection import parse_url

from .errors import DoctorError
from .facts import Kind

_KNOWN = (
    "redis://host:port, rediss://host:port, unix:///path, redis+sentinel://h1,h2,h3/service "
    "or redis+cluster://h1,h2"
)
_REDIS_PORT = 6379
_SENTINEL_PORT = 26379


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

    :raises DoctorError: if one is no URL of Redis, or they cannot stand together
    """
    targets = [_parse_one(url, number) for number, url in enumerate(urls, 1)]
    if len(targets) == 1:
        return targets[0]
    if any(target.kind is not Kind.SINGLE for target in targets):
        raise DoctorError(
            "several URLs are the nodes of a quorum: each must be one Redis, "
            "no Sentinel and no Cluster"
        )
    return Target(kind=Kind.QUORUM, endpoints=[target.endpoints[0] for target in targets])


def _parse_one(url: str, number: int) -> Target:
    # Whatever goes wrong below may quote the URL: only our own words get out.
    try:
        parts = urlsplit(url)
        _refuse_misread_password(parts, number)
        scheme, _, flavour = parts.scheme.partition("+")
        if flavour == "sentinel" and scheme in ("redis", "rediss"):
            return _sentinel(parts, scheme)
        if flavour == "cluster" and scheme in ("redis", "rediss"):
            if parts.path.strip("/"):
                raise DoctorError("a Cluster has no databases: leave the URL's path empty")
            seeds = _endpoints(parts, scheme, _REDIS_PORT)
            return Target(kind=Kind.CLUSTER, endpoints=seeds)
        if not flavour and scheme in ("redis", "rediss", "unix"):
            return Target(kind=Kind.SINGLE, endpoints=[_single(url)])
    except (ValueError, TypeError):
        pass
    raise DoctorError(f"URL {number} is no URL of Redis: write {_KNOWN}")


def _refuse_misread_password(parts: SplitResult, number: int) -> None:
    """Refuse a URL where a / ? # in the password makes it look like a host's name."""
    beyond_host = parts.path + parts.query.partition("=")[0] + parts.fragment
    if "@" in beyond_host and parts.scheme != "unix":
        raise DoctorError(f"URL {number} is no URL of Redis: percent-encode / ? # in its password")


def _single(url: str) -> Endpoint:
    options: dict[str, Any] = dict(parse_url(url))
    if "path" in options:
        return _checked(Endpoint(f"unix:{options['path']}", options))
    host = options.setdefault("host", "localhost")
    port = options.setdefault("port", _REDIS_PORT)
    return _checked(Endpoint(_joined(host, port), options))


def _checked(endpoint: Endpoint) -> Endpoint:
    """Have redis-py refuse options that it does not know, before any I/O."""
    endpoint.pool(1.0).make_connection()  # type: ignore[no-untyped-call]  # redis-py's
    return endpoint


def _sentinel(parts: SplitResult, scheme: str) -> Target:
    """Read ``redis+sentinel://user:password@h1:p1,h2:p2/service?db=0&options``.

    User and password are those of Redis; the Sentinels' own are the options
    ``sentinel_username`` and ``sentinel_password``.
    """
    service = unquote(parts.path.removeprefix("/"))
    if not service or "/" in service:
        raise DoctorError(
            "a redis+sentinel:// URL ends in the name that the Sentinels give to the "
            "primary, such as /mymaster"
        )
    redis, *others = _endpoints(parts._replace(path=""), scheme, _SENTINEL_PORT)
    options = dict(redis.options)
    own = {name: options.pop(f"sentinel_{name}", None) for name in ("username", "password")}
    transport = {
        name: value for name, value in options.items() if name not in ("username", "password", "db")
    }
    credentials = {name: value for name, value in own.items() if value is not None}
    sentinels = [
        _checked(Endpoint(each.place, {**transport, **_address(each), **credentials}))
        for each in (redis, *others)
    ]
    reach = _checked(replace(redis, options=options))
    return Target(kind=Kind.SENTINEL, endpoints=sentinels, service=service, redis=reach)


def _address(endpoint: Endpoint) -> dict[str, Any]:
    return {name: endpoint.options[name] for name in ("host", "port")}


def _endpoints(parts: SplitResult, scheme: str, default_port: int) -> list[Endpoint]:
    """Return one endpoint for each host of ``user:password@h1:p1,h2:p2``."""
    credentials, at, hosts = parts.netloc.rpartition("@")
    found = []
    for host in hosts.split(","):
        each = urlsplit(
            urlunsplit((scheme, f"{credentials}{at}{host}", parts.path, parts.query, ""))
        )
        if not each.hostname:
            raise ValueError("a host is missing")
        options = {**parse_url(each.geturl()), "port": each.port or default_port}
        found.append(Endpoint(_joined(each.hostname, each.port or default_port), options))
    return found


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
