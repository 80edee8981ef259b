"""The nodes of a quorum, and the one timer that bounds all its rounds."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from aiodistlock.connection.pipe_like import PipeLike
from aiodistlock.core.clock import Clock
from aiodistlock.deployments.quorum.votes import LEAST_LIMIT, majority
from aiodistlock.protocol.operations import Operations
from aiodistlock.protocol.redis_call import RedisCall

TICK = LEAST_LIMIT / 4
"""Seconds between two looks at the rounds under way."""


class NodeError(Exception):
    """
    What is wrong with one node.

    :ivar address: where the node is
    :ivar lasting: whether asking again will not help
    """

    def __init__(self, address: str, problem: str, *, lasting: bool = False) -> None:
        super().__init__(address, problem)
        self.address = address
        self.problem = problem
        self.lasting = lasting

    def __str__(self) -> str:
        return f"{self.address}: {self.problem}"


class Node(PipeLike, Protocol):
    """One Redis of a quorum; see ``deployments/quorum/node_pipe.py``."""

    address: str
    ready: bool
    """Whether it is worth asking: connected and not silent, or about to connect."""
    introduced: bool
    """Whether it has told which server it is, or will not tell."""
    trouble: NodeError
    """Why it is not ready."""

    def clean_up(self, call: RedisCall[Any]) -> None:
        """Send a call that takes something back, behind what it takes back."""
        ...

    def recover(self) -> None:
        """See whether the node can be made ready again; cheap enough for every round."""
        ...

    def look(self, now: float) -> bool:
        """Notice silence; tell whether there is anything to look at again."""
        ...


class Bounded(Protocol):
    """A round as its quorum sees it; see ``rounds/round.py``."""

    until: float
    """Local instant at which it ends."""

    @property
    def under_way(self) -> bool:
        """Whether somebody waits for the outcome."""
        ...

    def run_out(self) -> None:
        """End at the limit."""
        ...


class Quorum:
    """
    The nodes of a quorum, and the rounds under way.

    :param nodes: all of them; their number never changes
    :param operations: what they can be asked
    """

    def __init__(self, nodes: Sequence[Node], operations: Operations, clock: Clock) -> None:
        self.nodes = tuple(nodes)
        self.operations = operations
        self.clock = clock
        self.size = len(self.nodes)
        self.majority = majority(self.size)
        self.problem: Exception | None = None
        """Why the nodes cannot make a quorum at all."""
        self.introduced = False
        """Whether all nodes, as far as they are there, have told who they are once."""
        self._loop = asyncio.get_running_loop()
        self._rounds: list[Bounded] = []
        self._timer: asyncio.TimerHandle | None = None

    def introduce(self) -> bool:
        """See whether all nodes that are there have told who they are."""
        self.introduced = all(node.introduced or not node.ready for node in self.nodes)
        return self.introduced

    def watch(self, round_: Bounded) -> None:
        """End a round at its limit, if it has not ended by then."""
        self._rounds.append(round_)
        if self._timer is None:
            self._timer = self._loop.call_later(TICK, self._tick)

    def _tick(self) -> None:
        self._timer = None
        now = self.clock()
        rounds, self._rounds = self._rounds, []
        for each in rounds:
            if each.until <= now and each.under_way:
                each.run_out()
        self._rounds += [each for each in rounds if each.under_way]
        busy = [node.look(now) for node in self.nodes]
        if (self._rounds or any(busy)) and self._timer is None:
            self._timer = self._loop.call_later(TICK, self._tick)

    def stop(self) -> None:
        """Look at nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
