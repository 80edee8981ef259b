"""The nodes of a quorum under test."""

from __future__ import annotations

from collections.abc import Callable

from bench.nodes import BenchNodes
from bench.server import BenchServer

NODES = 5


class BenchQuorum(BenchNodes):
    """
    Private servers of which a majority decides.

    A quorum on machines of its own pays in latency what this pays in CPU.
    """

    def __init__(self) -> None:
        super().__init__(NODES)

    @property
    def url(self) -> str:
        """Where clients connect: all nodes, separated by commas."""
        return ",".join(node.url for node in self._nodes)

    def take_out(self, how: Callable[[BenchServer], object], count: int) -> None:
        """Kill or freeze so many nodes; they are not asked for figures any more."""
        for _ in range(count):
            how(self._up.pop())
