"""``loop.close()`` without an end of the tasks, on every deployment."""

import pytest

from aiodistlock.testing.embedded import EmbeddedRedis
from tests.closed_loops import close_loops
from tests.deployments.cluster import Cluster
from tests.deployments.sentinel import SentinelDeployment


@pytest.mark.parametrize("protocol", [2, 3])
def test_behind_sentinels(sentinels: SentinelDeployment, protocol: int) -> None:
    """The lines to the sentinels end as quietly as the connection to the master."""
    close_loops(sentinels.url, "clients", "clients", protocol=protocol, then="collect")


def test_on_a_cluster(cluster: Cluster) -> None:
    """All pipes to its nodes, and the question who owns which slots."""
    # Without sharded pub/sub nobody queues there: the scene waits for somebody who does.
    scene = "clients" if cluster.sharded else "client"
    close_loops(cluster.url, scene, scene, then="collect")


@pytest.mark.parametrize("protocol", [2, 3])
def test_on_a_quorum(quorum_urls: list[str], protocol: int) -> None:
    """The pipes to all nodes."""
    close_loops(quorum_urls, "clients", "clients", protocol=protocol)


def test_over_tls(tls_redis: EmbeddedRedis) -> None:
    """There are two transports to a connection."""
    close_loops(tls_redis.url, "clients", "held", then="collect")
    close_loops(tls_redis.url, "clients", "held")
