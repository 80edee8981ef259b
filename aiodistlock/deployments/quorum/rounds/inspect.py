"""Asking who holds a lock on a quorum."""

from __future__ import annotations

from aiodistlock.core.keys import LockKeys
from aiodistlock.deployments.quorum.rounds.nodes import Quorum
from aiodistlock.deployments.quorum.rounds.round import Round
from aiodistlock.deployments.quorum.votes import Sighting, Verdict, seen_by_majority
from aiodistlock.protocol.answers import Inspected, InspectReply


class Inspect(Round[InspectReply]):
    """Asks all nodes, and answers the holder that a majority names."""

    __slots__ = ("_seen",)

    def __init__(self, quorum: Quorum, keys: LockKeys, limit: float) -> None:
        super().__init__(quorum, quorum.operations.inspect(keys), limit)
        self._seen: list[Inspected] = []

    def answered(self, node: int, reply: Inspected) -> None:  # noqa: ARG002  # all count alike
        """Collect what a node knows."""
        self._seen.append(reply)
        self.votes_for += 1
        self.judge()

    def judge(self) -> None:
        """End when all have answered or failed: waiters may be known to any of them."""
        if self.votes_for + self.against < self.quorum.size:
            return
        if self.verdict is Verdict.WON:
            self.finish(self._summary())
        else:
            self.finish(self.failed())

    def _summary(self) -> Inspected:
        sightings = [
            Sighting(each.holder, each.remaining) for each in self._seen if each.holder is not None
        ]
        seen = seen_by_majority(self.quorum.size, self.against, sightings)
        fence = max(each.fence for each in self._seen)
        # One line of those who wait on any node: on a quorum there is no order.
        waiters = tuple(dict.fromkeys(each for seen_ in self._seen for each in seen_.waiters))
        if seen is None:
            return Inspected(None, None, fence, waiters)
        return Inspected(seen.holder, seen.remaining, fence, waiters)
