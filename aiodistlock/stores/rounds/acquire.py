"""The round that acquires a lease on a quorum."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiodistlock.core.keys import LockKeys
from aiodistlock.core.quorum import Sighting, Verdict, all_new, seen_by_majority
from aiodistlock.stores import scripts
from aiodistlock.stores.answers import AcquireReply, Failed, Granted, Held
from aiodistlock.stores.redis_call import bulks
from aiodistlock.stores.replies import GRANTED, HELD, seconds
from aiodistlock.stores.rounds.base import Vote
from aiodistlock.stores.rounds.fenced import FencedRound, Fencing
from aiodistlock.stores.rounds.give_up import Errand, undo
from aiodistlock.stores.rounds.nodes import NodeError, Quorum

MARKER = b"aiodistlock:marker"
"""Key of the marker that tells a node with its data from one without."""

_MARKER = bulks(MARKER)

NEW_WITHIN = 1.0
"""A deployment is brand-new if all nodes came up without data within so many seconds."""


class Acquire(FencedRound[AcquireReply]):
    """
    Asks all nodes for their vote; takes back what it got if it is lost.

    :param args: the arguments of ``vote.lua`` behind the proposed fencing token, packed
    """

    __slots__ = ("hinted", "sightings", "token", "ttl_ms", "untrusted")

    def __init__(
        self,
        quorum: Quorum,
        keys: LockKeys,
        token: bytes,
        ttl_ms: int,
        *,
        args: bytes,
        limit: float,
        fencing: Fencing,
        on_reply: Callable[[AcquireReply], object] | None,
    ) -> None:
        proposed = fencing.propose()
        own = bulks(token, ttl_ms, proposed)
        rest = b"%b%b%b%b" % (keys.packed, _MARKER, own, args)
        super().__init__(
            quorum,
            scripts.VOTE,
            keys,
            rest,
            limit=limit,
            fencing=fencing,
            proposed=proposed,
            on_reply=on_reply,
        )
        self.token = token
        self.ttl_ms = ttl_ms
        self.sightings: list[Sighting] = []
        self.untrusted: dict[int, list[Any]] = {}
        self.hinted = False
        """Whether the lock became free while the round was under way."""

    def answered(self, node: int, reply: list[Any]) -> None:
        """Count a vote."""
        code = reply[0]
        if code == GRANTED:
            self.issued(node, reply[2])
            return
        self.against += 1
        if code == HELD:
            self.sightings.append(Sighting(reply[3].decode(errors="replace"), seconds(reply[2])))
        else:
            self.untrusted[node] = reply
            problem = f"came up without its data, not counted for {reply[4] / 1e6:.3g} s more"
            error = NodeError(self.quorum.nodes[node].address, problem)
            self.failures[node] = Failed(error, True, self.sent_at)
        self.judge()

    def won(self, fence: int) -> None:
        """Take the lease."""
        self.finish(Granted(fence, self.proposed, self.sent_at, self.token))

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
        ages = {node: reply[3] / 1e6 for node, reply in self.untrusted.items()}
        if not all_new(self.quorum.size, ages, NEW_WITHIN):
            return False
        for node, reply in self.untrusted.items():
            errand = Errand(
                self.quorum, scripts.TRUST, self.keys.packed + _MARKER + bulks(reply[2]), self.limit
            )
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
        unanswered = {vote.node for vote in votes if type(vote.reply) is not list}
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
            return Held(*seen)
        # It became free meanwhile, or the vote was split.
        return Held(self.sightings[0].holder, 0.0, split=not self.hinted)
