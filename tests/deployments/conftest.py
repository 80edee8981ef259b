"""Deployments of several processes, one for each test: most are broken by it."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from aiodistlock.testing.embedded import EmbeddedRedis
from tests.deployments.cluster import Cluster, Node
from tests.deployments.quorum import Nodes
from tests.deployments.sentinel import SentinelDeployment, sentinel_deployment


@pytest.fixture
def nodes(five_nodes: list[EmbeddedRedis]) -> Iterator[Nodes]:
    """Five nodes of the test's own."""
    with Nodes(five_nodes) as nodes:
        yield nodes


@pytest.fixture
def sentinels(redis_binary: Path) -> Iterator[SentinelDeployment]:
    """One master, two replicas, three sentinels."""
    with sentinel_deployment(redis_binary) as deployment:
        yield deployment


@pytest.fixture
def growing(redis_binary: Path) -> Iterator[tuple[Cluster, Node]]:
    """A cluster of two primaries, and a third one that has no slots yet."""
    with ExitStack() as stack:
        cluster = Cluster(redis_binary, stack, shards=2, replicas=0)
        newcomer = Node(redis_binary)
        stack.callback(newcomer.server.stop)
        cluster.add(newcomer)
        yield cluster, newcomer
