"""Several servers under test at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Self

from bench.server import BenchServer, Reading


class BenchNodes:
    """
    Private servers, all on this machine: they share its cores with the client.

    :param count: how many
    :param args: further arguments of each
    """

    def __init__(self, count: int, args: Sequence[str] = ()) -> None:
        self._stack = ExitStack()
        self._count = count
        self._args = args
        self._nodes: list[BenchServer] = []
        self._up: list[BenchServer] = []

    def __enter__(self) -> Self:
        with self._stack:
            self._nodes = [
                self._stack.enter_context(BenchServer(self._args)) for _ in range(self._count)
            ]
            self._up = list(self._nodes)
            self._form()
            self._stack = self._stack.pop_all()
        return self

    def _form(self) -> None:
        """Make of the servers what they are to be together."""

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

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
