"""What all rounds share: the nodes, one vote each, and the time limit.

Rules
-----
1. A round asks all nodes at once, and counts its deadline from before the first request.
2. A node that is not connected, or has fallen silent, has failed: nothing queues up for
   it.  (The first connection of all is waited for, as long as the limit allows.)
3. A round ends as soon as its outcome is certain; what is still in flight is not waited
   for.  Answers that come later change nothing.
4. One coarse timer bounds all rounds of a store: a timer for each node of each round would
   cost more than the requests.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection, Sequence
from typing import Any, cast

from aiodistlock.core.escaping import described
from aiodistlock.deployments.quorum.rounds.nodes import Node, NodeError, Quorum
from aiodistlock.deployments.quorum.votes import Verdict, verdict
from aiodistlock.protocol.answers import Failed
from aiodistlock.protocol.call import Call, R
from aiodistlock.protocol.redis_call import RedisCall


class Vote(RedisCall[Any]):
    """One node's part in a round."""

    __slots__ = ("node", "round")

    def __init__(self, round_: Round[Any], node: int) -> None:
        # RedisCall's, written out: this runs ten times for every lease on five nodes.
        self.round = round_
        self.node = node
        self.on_reply = None
        self.reply = None
        self.sent_at = 0.0
        self.resent = False
        self.obsolete = False
        self._awaiting = None
        self.tag = 0
        self.issued_at = math.inf
        self.until = round_.kept_until
        request = round_.request
        self.script = request.script
        self.keys = request.keys
        self.args = request.args
        self.decode = request.decode

    def finish(self, reply: Any) -> None:
        """Hand the answer to the round, once."""
        if self.reply is None:
            if self._awaiting is None:
                self.reply = reply
            else:
                super().finish(reply)
            self.round.hear(self.node, reply)


class Round(Call[R]):
    """
    One request to all nodes.

    :param request: what each node is asked
    :param limit: seconds after which nodes that have not answered have failed
    """

    __slots__ = (
        "_obsolete",
        "against",
        "failures",
        "kept_until",
        "keys",
        "limit",
        "quorum",
        "request",
        "until",
        "votes",
        "votes_for",
    )

    cleans_up = False
    """Whether its requests take something back, and so are kept for a lost connection."""

    def __init__(
        self,
        quorum: Quorum,
        request: RedisCall[Any],
        limit: float,
        on_reply: Callable[[R], object] | None = None,
    ) -> None:
        self.on_reply = on_reply
        self.reply: R | None = None
        self.resent = False
        self._awaiting = None
        self._obsolete = False
        self.quorum = quorum
        self.request = request
        self.keys = request.keys
        self.limit = limit
        self.sent_at = quorum.clock()
        self.until = self.kept_until = self.sent_at + limit
        self.votes: Sequence[Vote | None] = ()
        """The votes by node, ``None`` where a node was not asked; empty once all is over."""
        self.votes_for = 0
        self.against = 0
        """Nodes that refused, failed or do not count."""
        self.failures: dict[int, Failed] = {}

    @property
    def obsolete(self) -> bool:
        """Whether nobody wants the answer: what is unsent is not sent any more."""
        return self._obsolete

    @obsolete.setter
    def obsolete(self, value: bool) -> None:
        self._obsolete = value
        for vote in self.votes:
            if vote is not None:
                vote.obsolete = value

    def finish(self, reply: R) -> None:
        """Deliver the outcome, and let go of what would keep the round in memory."""
        on_reply, self.on_reply, self.votes = self.on_reply, None, ()
        super().finish(reply)
        if on_reply is not None:
            on_reply(reply)

    @property
    def under_way(self) -> bool:
        """Whether somebody waits for the outcome."""
        return self.reply is None and not self._obsolete

    def issue(self) -> None:
        """Ask all nodes, unless it is clear beforehand that too few can answer."""
        quorum = self.quorum
        nodes = quorum.nodes
        for index, node in enumerate(nodes):
            if not node.ready:
                node.recover()
                if not node.ready:
                    trouble = node.trouble
                    self._fail(index, Failed(trouble, not trouble.lasting, self.sent_at))
        quorum.watch(self)
        if quorum.problem is not None or quorum.size - self.against < quorum.majority:
            # Not at once: the caller does not know its call yet.
            asyncio.get_running_loop().call_soon(self._give_up)
            return
        self.votes = votes = [
            Vote(self, index) if node.ready else None for index, node in enumerate(nodes)
        ]
        for node, vote in zip(nodes, votes, strict=True):
            if vote is not None:
                node.submit(vote)

    def send(self, nodes: Collection[int]) -> None:
        """Ask only these nodes, behind what they were asked before, and await nothing."""
        self._obsolete = True
        for index in nodes:
            node = self.quorum.nodes[index]
            if node.ready:
                node.submit(Vote(self, index))
            elif self.cleans_up:
                node.clean_up(Vote(self, index))

    def _give_up(self) -> None:
        """End a round for which too few nodes are there; none was asked."""
        if self.under_way:
            problem = self.quorum.problem
            failed = Failed(problem, False, self.sent_at) if problem else self.failed()
            self.finish(cast(R, failed))

    def hear(self, node: int, reply: Any) -> None:
        """Take in a node's answer."""
        if self.reply is not None or self._obsolete:
            return
        if type(reply) is not Failed:
            self.answered(node, reply)
        else:
            address = self.quorum.nodes[node].address
            error = reply.cause
            if not isinstance(error, NodeError):
                error = NodeError(address, described(error))
            self._fail(node, Failed(error, reply.transient, self.sent_at))
            self.judge()

    def _fail(self, node: int, failed: Failed) -> None:
        self.failures[node] = failed
        self.against += 1

    def run_out(self) -> None:
        """End at the limit: those that have not answered have failed."""
        for vote in self.votes:
            if vote is not None and vote.reply is None:
                error = self._silence(self.quorum.nodes[vote.node])
                self._fail(vote.node, Failed(error, True, self.sent_at))
        self.judge()

    def _silence(self, node: Node) -> NodeError:
        return NodeError(node.address, f"no answer for {self.limit:.3g} s")

    def failed(self) -> Failed:
        """Return that too few nodes could answer, with the cause of each that did not."""
        failures = [self.failures[index] for index in sorted(self.failures)]
        causes = [failed.cause for failed in failures]
        # Asking again may help unless those that never will are too many on their own.
        lasting = sum(not failed.transient for failed in failures)
        transient = self.quorum.size - lasting >= self.quorum.majority
        missing = f"{len(causes)} of {self.quorum.size} nodes: {'; '.join(map(str, causes))}"
        return Failed(ExceptionGroup(missing, causes), transient, self.sent_at)

    @property
    def verdict(self) -> Verdict:
        """What the round has come to."""
        return verdict(self.quorum.size, self.votes_for, self.against)

    def answered(self, node: int, reply: Any) -> None:
        """Take in what a node answered."""
        raise NotImplementedError

    def judge(self) -> None:
        """End the round if its outcome is certain."""
        raise NotImplementedError
