"""How much is measured, and what a workload is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.peers import catalog
from bench.peers.catalog import AT, OURS, Side
from bench.results import Metrics
from bench.server import BenchServer

CYCLES = 20
"""How many each task of the slowest side is to do in a window."""

LEAST, MOST, QUICK = 0.6, 3.0, 0.3
"""Seconds that a window lasts: no less, no more, and in a quick run."""

ROUNDS, QUICK_ROUNDS = 5, 1
"""Rounds, if not told otherwise: for two of everything two minutes are too short."""


@dataclass(frozen=True)
class Plan:
    """
    How much of everything.

    :ivar quick: whether two minutes must do
    :ivar repeat: rounds
    :ivar peers: keys of the peers to measure, those that cannot be left out already
    """

    quick: bool
    repeat: int
    peers: Sequence[str]

    @property
    def ours(self) -> Sequence[str]:
        """Ours, and ours as another commit has it, if that is a peer."""
        return [peer for peer in self.peers if peer == OURS or peer.startswith(AT)]

    def sides(self, *peers: str, slow: bool = False) -> list[Side]:
        """
        Return the sides of those of the peers that are measured.

        :param slow: whether a sample takes long, so that a quick run does without uvloop
        """
        found = catalog.sides(*(peer for peer in peers if peer in self.peers))
        return [side for side in found if side.loop != "uvloop" or not (slow and self.quick)]

    def seconds(self, full: float, quick: float) -> float:
        """Return how long one sample takes."""
        return quick if self.quick else full

    def window(self, tasks: int, slowest: float) -> float:
        """
        Return how many seconds are measured, the same for all sides of a case.

        In two or three cycles a task, those begun before the window and those cut off by
        its end are a good part of all; so it is as long as the slowest needs for
        ``CYCLES``, or as a run has time for.

        :param slowest: cycles a second of the slowest side, about
        """
        if self.quick:
            return QUICK
        return min(max(CYCLES * tasks / slowest, LEAST), MOST)


@dataclass(frozen=True)
class Case:
    """
    One setting of a workload.

    :ivar run: measures one sample of a side
    """

    name: str
    sides: Sequence[Side]
    run: Callable[[BenchServer, Side], Metrics]


@dataclass(frozen=True)
class Workload:
    """
    One thing that is measured.

    :ivar cases: settles what to measure
    """

    name: str
    about: str
    cases: Callable[[Plan], Sequence[Case]]
