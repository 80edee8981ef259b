"""Taking votes back: a release, an abandoned acquisition, a round that was lost."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from aiodistlock.core.keys import LockKeys
from aiodistlock.deployments.quorum.rounds.courtesy import Courtesy
from aiodistlock.deployments.quorum.rounds.nodes import Quorum
from aiodistlock.deployments.quorum.rounds.round import Round, Vote
from aiodistlock.deployments.quorum.votes import Verdict
from aiodistlock.protocol.answers import AbandonReply, Done, NotOurs, ReleaseReply, Unvoted
from aiodistlock.protocol.call import R
from aiodistlock.protocol.redis_call import RedisCall

_RELEASED = Done()


class GiveUp(Round[R]):
    """
    Takes a token's votes back on all nodes, with a hint to those who wait.

    Each node's request goes behind whatever it was asked before, and is kept for a while
    if the connection is lost.

    :param until: local instant at which the keys expire anyway
    """

    __slots__ = ()

    cleans_up = True

    def __init__(self, quorum: Quorum, request: RedisCall[Any], limit: float, until: float) -> None:
        super().__init__(quorum, request, limit)
        self.kept_until = until

    def issue(self) -> None:
        """Ask all nodes, also those that are not ready."""
        quorum = self.quorum
        quorum.watch(self)
        self.votes = votes = [Vote(self, index) for index in range(quorum.size)]
        for node, vote in zip(quorum.nodes, votes, strict=True):
            if node.ready:
                node.submit(vote)
            else:
                node.clean_up(vote)


class Release(GiveUp[ReleaseReply]):
    """
    Gives a lease up; tells if it was not ours any more.

    :param courtesy: told if a waiter of another process may ask now
    """

    __slots__ = ("_courtesy", "refusal")

    def __init__(
        self,
        quorum: Quorum,
        request: RedisCall[Any],
        limit: float,
        until: float,
        courtesy: Courtesy,
    ) -> None:
        super().__init__(quorum, request, limit, until)
        self._courtesy = courtesy
        self.refusal: NotOurs | None = None

    def answered(self, node: int, reply: Unvoted) -> None:
        """Count nodes where the lease was ours, and is given up."""
        if reply.hinted:
            self._courtesy.hinted(self.keys.key)
        vote = self.votes[node]
        # Sent again, it says no more than that an earlier copy may have done it.
        if reply.refusal is None or (vote is not None and vote.resent):
            self.votes_for += 1
            if self.votes_for == self.quorum.majority:
                self.finish(_RELEASED)
        else:
            self.against += 1
            self.refusal = reply.refusal
            self.judge()

    def judge(self) -> None:
        """End when a majority cannot have been ours, or cannot be told."""
        if self.verdict is not Verdict.LOST:
            return
        refused = self.against - len(self.failures)
        if self.refusal is not None and self.quorum.size - refused < self.quorum.majority:
            self.finish(self.refusal)
        elif self.against + self.votes_for == self.quorum.size:
            # Nodes that have yet to answer could still turn it into a loss.
            self.finish(self.failed())


class Abandon(GiveUp[AbandonReply]):
    """Undoes an acquisition on all nodes, wherever it had got to."""

    __slots__ = ()

    def answered(self, node: int, reply: Unvoted) -> None:  # noqa: ARG002  # all count alike
        """Count nodes that have nothing of it any more."""
        self.votes_for += 1
        if self.votes_for == self.quorum.majority:
            self.finish(_RELEASED)

    def judge(self) -> None:
        """End when no majority will confirm it."""
        if self.verdict is Verdict.LOST:
            self.finish(self.failed())


class Errand(Round[AbandonReply]):
    """A request to some of the nodes whose answer nobody needs."""

    __slots__ = ()

    cleans_up = True

    def hear(self, node: int, reply: Any) -> None:
        """Nobody waits for it."""


def undo(
    quorum: Quorum,
    keys: LockKeys,
    token: bytes,
    nodes: Collection[int],
    *,
    limit: float,
    until: float,
) -> None:
    """
    Take back what a lost round may have got on these nodes; places in queues are kept.

    :param until: local instant at which the keys expire anyway
    """
    if nodes:
        errand = Errand(quorum, quorum.operations.unvote(keys, token, 0, b""), limit)
        errand.kept_until = until
        errand.send(nodes)
