"""The nodes of a quorum under test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Self

from bench.server import BenchServer, Reading

NODES = 5


class BenchQuorum:
    """
    Private servers of which a majority decides.

    All are on this machine, so they share its cores with the client: a quorum on machines
    of its own pays in latency what this pays in CPU.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._nodes: list[BenchServer] = []
        self._up: list[BenchServer] = []

    def __enter__(self) -> Self:
        with self._stack:
            self._nodes = [self._stack.enter_context(BenchServer()) for _ in range(NODES)]
            self._up = list(self._nodes)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        """Where clients connect: all nodes, separated by commas."""
        return ",".join(node.url for node in self._nodes)

    def take_out(self, how: Callable[[BenchServer], object], count: int) -> None:
        """Kill or freeze so many nodes; they are not asked for figures any more."""
        for _ in range(count):
            how(self._up.pop())

    def clear(self) -> None:
        """Forget all data; the scripts stay."""
        for node in self._up:
            node.clear()

    def read(self) -> Reading:
        """Read the counters of all nodes that are up, together."""
        readings = [node.read() for node in self._up]
        calls: Counter[str] = Counter()
        for reading in readings:
            calls.update(reading.calls)
        return Reading(sum(reading.cpu for reading in readings), dict(calls))

    @contextmanager
    def pinned(self, core: int | None) -> Iterator[None]:
        """Keep all nodes on one core for a while; ``None`` changes nothing."""
        with ExitStack() as stack:
            for node in self._nodes:
                stack.enter_context(node.pinned(core))
            yield
