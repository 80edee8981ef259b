"""Credentials that a provider streams, for connections outside of a pool's count.

redis-py has the connections of a pool authenticate anew when the provider announces new
credentials: it calls the pool's ``re_auth_callback``.  A provider has room for one listener as a
rule, and redis-py takes it.  So who else wants to know hears it from the pool.  Of a pool that
``from_url`` made redis-py tells its provider nothing; we do what it does for the others.

A cluster's client has no pool: there redis-py registers for the nodes that it knows, and again
each time that it asks who they are.  So there its registrations are told with us.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any, Protocol
from weakref import WeakKeyDictionary, WeakSet

from redis.credentials import StreamingCredentialProvider


class Hearer(Protocol):
    """Who wants to know."""

    def connect_anew(self) -> None:
        """Take note that there are new credentials, in whatever thread."""
        ...


_hearers: WeakKeyDictionary[Any, WeakSet[Any]] = WeakKeyDictionary()


def hear_of_credentials(connector: Any, hearer: Hearer) -> None:
    """Tell somebody, for as long as it lives, of what a connector's provider announces."""
    settings = getattr(connector, "connection_kwargs", {})
    provider = settings.get("credential_provider")
    if not isinstance(provider, StreamingCredentialProvider):
        return
    announce = getattr(connector, "re_auth_callback", None)
    hearers = _hearers.get(provider if announce is None else connector)
    if hearers is None and announce is not None:
        hearers = _hearers[connector] = WeakSet()
        connector.re_auth_callback = _telling(hearers, announce)
        if "event_dispatcher" not in settings:  # which redis-py registers with
            provider.on_next(connector.re_auth_callback)
    if hearers is not None:
        hearers.add(hearer)


def register_for_cluster(provider: Any, nodes: dict[str, Any]) -> None:
    """
    Have whoever registers with a provider be told along with us, now and later.

    :param nodes: where the user's client keeps those that it knows
    """
    if not isinstance(provider, StreamingCredentialProvider) or provider in _hearers:
        return
    hearers = _hearers[provider] = WeakSet()
    register = provider.on_next

    def on_next(callback: Callable[[Any], Any]) -> None:
        register(_telling(hearers, callback))

    # In the provider itself: it has no hook that tells who registers later.
    provider.on_next = on_next  # type: ignore[method-assign]
    on_next(_re_auth(nodes))  # in place of redis-py's, which may have been there before


def _re_auth(nodes: dict[str, Any]) -> Callable[[Any], Any]:
    """Do what redis-py does for a cluster's own connections."""

    async def re_auth_callback(token: Any) -> None:
        for node in list(nodes.values()):
            await node.re_auth_callback(token)

    return re_auth_callback


def _telling(hearers: WeakSet[Any], announce: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def tell(token: Any) -> Any:
        for hearer in list(hearers):
            hearer.connect_anew()
        return announce(token)

    async def re_auth_callback(token: Any) -> None:
        await tell(token)

    return re_auth_callback if iscoroutinefunction(announce) else tell
