"""The round that acquires a lease on a quorum."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

from aiodistlock.core.keys import LockKeys
from aiodistlock.deployments.quorum.rounds.fenced import FencedRound, Fencing
from aiodistlock.deployments.quorum.rounds.give_up import Errand, undo
from aiodistlock.deployments.quorum.rounds.nodes import NodeError, Quorum
from aiodistlock.deployments.quorum.rounds.round import Vote
from aiodistlock.deployments.quorum.votes import Sighting, Verdict, all_new, seen_by_majority
from aiodistlock.protocol.answers import (
    AcquireReply,
    Failed,
    Granted,
    Held,
    Untrusted,
    Voted,
)

NEW_WITHIN = 1.0
"""A deployment is brand-new if all nodes came up without data within so many seconds."""


class Acquire(FencedRound[AcquireReply]):
    """
    Asks all nodes for their vote; takes back what it got if it is lost.

    :param inbox: where hints are heard, ``b""``: where it is refused do not wait for one
    :param quarantine_us: for how long a node that came up without data is not counted
    """

    __slots__ = ("hinted", "place", "sightings", "token", "ttl_ms", "untrusted")

    def __init__(
        self,
        quorum: Quorum,
        keys: LockKeys,
        token: bytes,
        ttl_ms: int,
        *,
        inbox: bytes,
        quarantine_us: int,
        limit: float,
        fencing: Fencing,
        on_reply: Callable[[AcquireReply], object] | None,
    ) -> None:
        proposed = fencing.propose()
        super().__init__(
            quorum,
            quorum.operations.vote(
                keys, token, ttl_ms, proposed=proposed, inbox=inbox, quarantine_us=quarantine_us
            ),
            limit=limit,
            fencing=fencing,
            proposed=proposed,
            on_reply=on_reply,
        )
        self.token = token
        self.ttl_ms = ttl_ms
        self.sightings: list[Sighting] = []
        self.untrusted: dict[int, Untrusted] = {}
        self.hinted = False
        """Whether the lock became free while the round was under way."""
        self.place = sys.maxsize
        """How many get a hint before us, on the node where that are fewest."""

    def answered(self, node: int, reply: Voted | Held | Untrusted) -> None:
        """Count a vote."""
        if type(reply) is Voted:
            self.issued(node, reply.fence)
            return
        self.against += 1
        if type(reply) is Held:
            self.sightings.append(Sighting(reply.holder, reply.remaining))
            self.place = min(self.place, reply.position)
        elif type(reply) is Untrusted:
            self.untrusted[node] = reply
            problem = f"came up without its data, not counted for {reply.remaining:.3g} s more"
            error = NodeError(self.quorum.nodes[node].address, problem)
            self.failures[node] = Failed(error, True, self.sent_at)
        self.judge()

    def won(self, fence: int) -> None:
        """Take the lease; the nodes cover its local hand-offs (``issue_proposed`` in Lua)."""
        self.finish(Granted(fence, fence, self.sent_at, self.token))

    def judge(self) -> None:
        """End the round if no majority can be won any more."""
        if self.verdict is not Verdict.LOST:
            return
        if len(self.untrusted) == self.against and self.against < self.quorum.size:
            # Perhaps all of them are new: only all together can tell.
            if self.votes_for == 0 and self.quorum.clock() < self.until:
                return
        elif self.quorum.clock() < self.until and self._trust_if_new():
            return
        self._lost()

    def _trust_if_new(self) -> bool:
        """Begin again with nodes that are trusted from now on, if all of them are new."""
        ages = {node: reply.age for node, reply in self.untrusted.items()}
        if not all_new(self.quorum.size, ages, NEW_WITHIN):
            return False
        for node, reply in self.untrusted.items():
            request = self.quorum.operations.trust(self.keys, reply.marker)
            errand = Errand(self.quorum, request, self.limit)
            errand.send((node,))
        self.untrusted.clear()
        self.failures.clear()
        self.against = 0
        self.votes = votes = [Vote(self, index) for index in range(self.quorum.size)]
        for pipe, vote in zip(self.quorum.nodes, votes, strict=True):
            pipe.submit(vote)
        return True

    def _lost(self) -> None:
        refused = len(self.sightings)
        if self.against - refused > self.quorum.size - self.quorum.majority:
            self.lose(self.failed())
        else:
            # Those that said nothing may name the holder, too.  But where a node gave us its
            # vote nobody seems to have them all: one who does is asked about in vain, seldom.
            unknown = 0 if self.votes_for else self.quorum.size - refused
            self.lose(self._held(unknown))

    def lose(self, reply: AcquireReply) -> None:
        """Take back what was won, and what may be won yet."""
        self.obsolete = True
        votes = [vote for vote in self.votes if vote is not None]
        unanswered = {
            vote.node for vote in votes if vote.reply is None or type(vote.reply) is Failed
        }
        until = self.sent_at + self.limit + self.ttl_ms / 1000
        nodes = unanswered | self.fences.keys()
        undo(self.quorum, self.keys, self.token, nodes, limit=self.limit, until=until)
        self.finish(reply)

    def stand_back(self, seconds: float) -> None:
        """Ask nobody for the moment: others were told that they may ask."""
        # Not at once: the caller does not know its call yet.
        asyncio.get_running_loop().call_soon(self._stood_back, seconds)

    def _stood_back(self, seconds: float) -> None:
        if self.under_way:
            self.finish(Held("", seconds))

    def _held(self, unknown: int) -> Held:
        seen = seen_by_majority(self.quorum.size, unknown, self.sightings)
        if seen is not None and not self.hinted:
            return Held(*seen, self.place)
        # It became free meanwhile, or the vote was split.
        return Held(self.sightings[0].holder, 0.0, split=not self.hinted)
