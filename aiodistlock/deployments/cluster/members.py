"""How the nodes of a user's ``RedisCluster`` are reached: by its settings alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.asyncio.connection import AbstractConnection

from aiodistlock.connection.credentials import register_for_cluster
from aiodistlock.core.slots import Address, Remap

if TYPE_CHECKING:
    from redis.asyncio import RedisCluster

# What redis-py's cluster client adds for its own use: callbacks that hold that client,
# and what its pool of connections takes.
_NOT_OURS = frozenset(
    {
        "connection_class",
        "host",
        "max_connections",
        "oss_cluster_maint_notifications_handler",
        "port",
        "protocol",
        "redis_connect_func",
        "response_callbacks",
    }
)


class Members:
    """
    The settings of a user's cluster client; the client itself is not kept.

    It need not have been initialised, and is never used.

    :ivar startup: the nodes to ask first
    :ivar remap: says how a node is reached from here, ``None``: by its own address
    """

    def __init__(self, cluster: RedisCluster) -> None:
        manager = cluster.nodes_manager
        kwargs = manager.connection_kwargs
        self.remap: Remap | None = manager.address_remap
        # Also what it found out meanwhile: the nodes it was told of may be gone.
        known = [*manager.startup_nodes.values(), *manager.nodes_cache.values()]
        self.startup = tuple(dict.fromkeys(Address(node.host, int(node.port)) for node in known))
        self._connection_class: type[AbstractConnection] = kwargs["connection_class"]
        register_for_cluster(kwargs.get("credential_provider"), manager.nodes_cache)
        self._kwargs = {key: value for key, value in kwargs.items() if key not in _NOT_OURS}

    def at(self, address: Address) -> MemberConnector:
        """Return what makes connections to a node."""
        # RESP3 whatever the user's own connections speak: grants arrive on the pipe.
        kwargs = {**self._kwargs, "host": address.host, "port": address.port, "protocol": 3}
        return MemberConnector(self._connection_class, kwargs)

    async def aclose(self) -> None:
        """Nothing is ours to close."""


class MemberConnector:
    """
    Makes connections to one node.

    :ivar connection_kwargs: its settings; secrets are in here
    """

    __slots__ = ("_class", "connection_kwargs")

    def __init__(self, connection_class: type[AbstractConnection], kwargs: dict[str, Any]) -> None:
        self._class = connection_class
        self.connection_kwargs = kwargs

    def make_connection(self) -> AbstractConnection:
        """Make a connection that is not open yet."""
        return self._class(**self.connection_kwargs)


def members_of(cluster: RedisCluster | Members) -> Members:
    """Return how the nodes are reached, by a cluster's client or by what stands for it."""
    return cluster if isinstance(cluster, Members) else Members(cluster)
