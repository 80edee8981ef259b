"""Asking who holds a lock on a quorum."""

from __future__ import annotations

from typing import Any

from aiodistlock.core.keys import LockKeys
from aiodistlock.core.quorum import Sighting, Verdict, seen_by_majority
from aiodistlock.stores import replies, scripts
from aiodistlock.stores.answers import Inspected, InspectReply
from aiodistlock.stores.rounds.base import Round
from aiodistlock.stores.rounds.nodes import Quorum


class Look(Round[InspectReply]):
    """Asks all nodes, and answers the holder that a majority names."""

    __slots__ = ("_seen",)

    def __init__(self, quorum: Quorum, keys: LockKeys, limit: float) -> None:
        super().__init__(quorum, scripts.INSPECT, keys.packed, limit)
        self._seen: list[Inspected] = []

    def answered(self, node: int, reply: list[Any]) -> None:  # noqa: ARG002  # all count alike
        """Collect what a node knows."""
        seen = replies.inspect(reply, self.sent_at)
        assert isinstance(seen, Inspected)
        self._seen.append(seen)
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
