"""Clients of redis-py by URL: one builder for each scheme.

=========================  ===================================================
``redis://``, ``unix://``  as redis-py takes them; ``rediss://`` is TLS
``redis+sentinel://``      ``user:password@host:port,host,…/master?db=0&…``
``rediss+sentinel://``     the same over TLS, to the sentinels too
=========================  ===================================================
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from redis.asyncio import Redis
from redis.asyncio.connection import parse_url
from redis.asyncio.sentinel import Sentinel

SENTINEL_PORT = 26379

_HOST = re.compile(
    r"(?:\[(?P<ipv6>[0-9A-Fa-f:.%]+)\]|(?P<name>[^\[\]:\s]+))(?::(?P<port>\d{1,5}))?"
)

_EXPECTED = "expected redis+sentinel://[user:password@]host[:port][,host…]/master[?db=0&…]"

_SENTINEL_CREDENTIALS = {"sentinel_username": "username", "sentinel_password": "password"}


def redis_from_url(url: str, **options: Any) -> Redis:
    """
    Build a redis-py client.

    :param options: win over what the URL says
    :raises ValueError: if the URL is wrong; the message does not show it, because it may
        contain a password
    """
    scheme = url.partition("://")[0].lower()
    build = _BUILDERS.get(scheme)
    if build is not None:
        return build(url, **options)
    client: Redis = Redis.from_url(url, **options)
    return client


def _split(url: str) -> SplitResult | None:
    with contextlib.suppress(ValueError):
        # What it says of a host that it cannot read may show the password before it.
        return urlsplit(url)
    return None


def _sentinel(url: str, **options: Any) -> Redis:
    parts = _split(url)
    if parts is None:
        raise ValueError(f"the URL cannot be read: {_EXPECTED}")
    tls = parts.scheme.startswith("rediss")
    credentials, _, hosts = parts.netloc.rpartition("@")
    addresses = [_address(host) for host in hosts.split(",")]
    master = unquote(parts.path.removeprefix("/"))
    if not master or "/" in master:
        raise ValueError(f"the URL's path must be the master's name: {_EXPECTED}")
    # redis-py converts the parameters, as for its own URLs.
    found: dict[str, Any] = dict(parse_url(f"redis://host?{parts.query}"))
    found.pop("host", None)
    user, _, password = credentials.partition(":")
    found |= {"username": unquote(user)} if user else {}
    found |= {"password": unquote(password)} if password else {}
    found |= {"ssl": True} if tls else {}
    found |= options
    of_sentinels = {
        ours: found.pop(name) for name, ours in _SENTINEL_CREDENTIALS.items() if name in found
    }
    shared = {name: value for name, value in found.items() if name.startswith(("socket_", "ssl"))}
    manager = Sentinel(addresses, sentinel_kwargs=shared | of_sentinels)  # type: ignore[no-untyped-call]  # redis-py's
    client: Redis = manager.master_for(master, **found)
    return client


def _address(host: str) -> tuple[str, int]:
    """Read one of the sentinels."""
    found = _HOST.fullmatch(host)
    port = int(found["port"] or SENTINEL_PORT) if found else 0
    if found is None or not 0 < port < 65536:
        raise ValueError(f"{host!r} is no host of a sentinel: {_EXPECTED}")
    return unquote(found["ipv6"] or found["name"]), port


_BUILDERS: dict[str, Callable[..., Redis]] = {
    "redis+sentinel": _sentinel,
    "rediss+sentinel": _sentinel,
}
