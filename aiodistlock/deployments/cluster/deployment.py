"""A Redis Cluster as a deployment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiodistlock.core.ack import Ack
from aiodistlock.deployments.cluster.connection import ClusterConnection
from aiodistlock.deployments.cluster.members import MemberConnector, Members, members_of
from aiodistlock.deployments.deployment import Deployment, named
from aiodistlock.deployments.single.deployment import check_client
from aiodistlock.deployments.single.store import SingleStore
from aiodistlock.protocol.operations import Operations
from aiodistlock.protocol.owner import Owner
from aiodistlock.protocol.scripts import ON_CLUSTER

if TYPE_CHECKING:
    from redis.asyncio import RedisCluster


def _place(cluster: RedisCluster | Members) -> str:
    addresses = [f"{host}:{port}" for host, port in members_of(cluster).startup]
    return f"the cluster of {named(addresses)}"


def _connectors(cluster: RedisCluster | Members) -> list[MemberConnector]:
    members = members_of(cluster)
    return [members.at(address) for address in members.startup[:1]]


def _build(
    cluster: RedisCluster | Members, owner: Owner, channel: bytes, secret: bytes, _ack: Ack
) -> SingleStore:
    connection = ClusterConnection(members_of(cluster), channel, secret, owner)
    operations = Operations(ON_CLUSTER, by_slot=True)
    return SingleStore(connection, connection.inboxes, operations)


CLUSTER = Deployment(
    matches=lambda source: isinstance(source, Members) or hasattr(source, "nodes_manager"),
    place=_place,
    build=_build,
    check=check_client,
    stand_in=members_of,
    connectors=_connectors,
)
