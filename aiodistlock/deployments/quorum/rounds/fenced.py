"""Rounds that issue a fencing token, and the second round that levels it.

A token counts once it stands at a majority: whoever takes the lock next asks a majority
too, so one of their nodes knows it, and goes above.  Usually all nodes issue what was
proposed, and nothing is left to do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiodistlock.deployments.quorum.rounds.nodes import Quorum
from aiodistlock.deployments.quorum.rounds.round import Round, Vote
from aiodistlock.deployments.quorum.votes import Proposer, agree
from aiodistlock.protocol.answers import Failed
from aiodistlock.protocol.call import R
from aiodistlock.protocol.redis_call import RedisCall


class Fencing:
    """
    What the rounds of one client share about fencing tokens.

    :param wall_us: reads the wall clock, in µs
    """

    def __init__(self, wall_us: Callable[[], int]) -> None:
        self.proposer = Proposer()
        self.wall_us = wall_us

    def propose(self) -> int:
        """Return the fencing token to ask for."""
        return self.proposer.propose(self.wall_us())


class FencedRound(Round[R]):
    """
    A round whose majority must agree on a fencing token.

    :param proposed: the token that was asked for
    """

    __slots__ = ("fences", "fencing", "level", "proposed")

    def __init__(
        self,
        quorum: Quorum,
        request: RedisCall[Any],
        *,
        limit: float,
        fencing: Fencing,
        proposed: int,
        on_reply: Callable[[R], object] | None,
    ) -> None:
        super().__init__(quorum, request, limit, on_reply)
        self.fencing = fencing
        self.proposed = proposed
        self.fences: dict[int, int] = {}
        """The token that each node issued."""
        self.level: RaiseFence | None = None

    def issued(self, node: int, fence: int) -> None:
        """Count a vote; with a majority of them, agree."""
        self.fences[node] = fence
        self.votes_for += 1
        if self.votes_for >= self.quorum.majority and self.quorum.introduced:
            self._agree()

    def hear(self, node: int, reply: Any) -> None:
        """Take in a node's answer; the first rounds of all wait for every node's name."""
        super().hear(node, reply)
        quorum = self.quorum
        if quorum.introduced or not self.under_way:
            return
        if quorum.problem is not None:
            self.lose(Failed(quorum.problem, False, self.sent_at))
        elif quorum.introduce() and self.votes_for >= quorum.majority:
            self._agree()

    def _agree(self) -> None:
        if self.level is not None:
            return
        agreed, behind = agree(self.fences)
        if not behind:
            self.won(agreed)
        else:
            self.fencing.proposer.observe(self.proposed, agreed)
            there = len(self.fences) - len(behind)
            self.level = RaiseFence(self, agreed, behind, self.quorum.majority - there)
            self.level.begin()

    def won(self, fence: int) -> None:
        """End the round with what it was for."""
        raise NotImplementedError

    def run_out(self) -> None:
        """End at the limit, also where only the token is not agreed on."""
        for node in () if self.level is None else self.level.behind:
            error = self._silence(self.quorum.nodes[node])
            self.failures[node] = Failed(error, True, self.sent_at)
        super().run_out()
        if self.under_way and self.level is None:
            # Somebody's name is still missing: it does not vote here.
            self._agree()
        elif self.under_way:
            self.lose(self.failed())

    def lose(self, reply: Any) -> None:
        """End the round without what it was for."""
        self.finish(reply)


class RaiseFence(Round[None]):
    """
    Writes the highest token back, until it stands at a majority.

    :param of: the round that it belongs to, which also bounds it
    :param behind: nodes whose counter is below
    :param missing: how many of them must be raised
    """

    __slots__ = ("_fence", "_missing", "_of", "behind")

    def __init__(
        self, of: FencedRound[Any], fence: int, behind: tuple[int, ...], missing: int
    ) -> None:
        super().__init__(of.quorum, of.quorum.operations.raise_fence(of.keys, fence), of.limit)
        self._of = of
        self._fence = fence
        self._missing = missing
        self.behind = behind

    def begin(self) -> None:
        """Raise the counters of the nodes that are behind."""
        for node in self.behind:
            self.quorum.nodes[node].submit(Vote(self, node))

    def hear(self, node: int, reply: Any) -> None:  # noqa: ARG002  # all count alike
        """Count nodes that have the token now."""
        if type(reply) is not Failed:
            self._missing -= 1
            if self._missing == 0 and self._of.under_way:
                self._of.won(self._fence)
