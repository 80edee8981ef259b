"""Puts all checks to a deployment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain

from aiodistlock.doctor.facts import Deployment, Kind, NodeFacts
from aiodistlock.doctor.findings import Finding, merged

from . import access, refusals, replication, storage
from .cluster import cluster
from .cost import cost
from .quorum import quorum
from .sentinel import sentinel
from .timing import clocks, fence_counter, round_trips
from .votes import votes

Check = Callable[[NodeFacts, Kind], Iterator[Finding]]

# What matters on a Redis of either role: a replica becomes a primary.
_EITHER: tuple[Check, ...] = (
    storage.eviction,
    storage.persistence,
    access.version,
    access.connections,
    access.protocol,
)
_TAKERS: tuple[Check, ...] = (
    access.answering,
    access.loading,
    refusals.permissions,
    replication.role,
    replication.min_replicas,
    replication.resync,
    replication.replicas,
    replication.quorum_replicas,
    fence_counter,
    cost,
    *_EITHER,
)
_REPLICAS: tuple[Check, ...] = (access.replica_answering, *_EITHER)


def diagnose(deployment: Deployment, ttl: float) -> list[Finding]:
    """
    Judge a deployment; the worst findings come first.

    :param ttl: length of the leases that it shall carry, seconds
    """
    return merged(
        chain(
            _of_nodes(deployment),
            quorum(deployment),
            votes(deployment, ttl),
            sentinel(deployment, ttl),
            cluster(deployment, ttl),
            round_trips(deployment, ttl),
            clocks(deployment, ttl),
        )
    )


def _of_nodes(deployment: Deployment) -> Iterator[Finding]:
    for nodes, checks in ((deployment.nodes, _TAKERS), (deployment.replicas, _REPLICAS)):
        for node in nodes:
            for check in checks:
                for finding in check(node, deployment.kind):
                    yield replace(finding, nodes=(node.place,))
