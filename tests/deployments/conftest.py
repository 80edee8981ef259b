"""Fixtures: deployments of more than one Redis."""

from collections.abc import Iterator

import pytest

from aiodistlock.testing.embedded import EmbeddedRedis
from tests.deployments.quorum import Nodes


@pytest.fixture
def nodes(five_nodes: list[EmbeddedRedis]) -> Iterator[Nodes]:
    """Five nodes of the test's own."""
    with Nodes(five_nodes) as nodes:
        yield nodes
