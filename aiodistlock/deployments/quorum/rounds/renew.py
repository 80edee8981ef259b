"""Renewing a lease on a quorum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiodistlock.deployments.quorum.rounds.nodes import Quorum
from aiodistlock.deployments.quorum.rounds.round import Round
from aiodistlock.deployments.quorum.votes import Verdict
from aiodistlock.protocol.answers import (
    NotOurs,
    Renewed,
    RenewReply,
)
from aiodistlock.protocol.operations import GONE
from aiodistlock.protocol.redis_call import RedisCall


class Renew(Round[RenewReply]):
    """
    Sets the remaining time of a lease on all nodes.

    :param heal: asks nodes that lost the key for their vote again
    """

    __slots__ = ("__weakref__", "gone", "heal", "refusal", "waiters")

    def __init__(
        self,
        quorum: Quorum,
        request: RedisCall[RenewReply],
        *,
        limit: float,
        heal: Callable[[list[int]], object],
        on_reply: Callable[[RenewReply], object] | None,
    ) -> None:
        super().__init__(quorum, request, limit, on_reply)
        self.heal = heal
        self.gone: list[int] = []
        self.refusal: NotOurs | None = None
        self.waiters = 0

    def hear(self, node: int, reply: Any) -> None:
        """Take in an answer; one that comes after the renewal may show a node to heal."""
        if type(self.reply) is Renewed and not self.obsolete:
            if reply is GONE:
                self.heal([node])
            return
        super().hear(node, reply)

    def answered(self, node: int, reply: Renewed | NotOurs) -> None:
        """Count a node that renewed, or remember why one did not."""
        if isinstance(reply, Renewed):
            self.votes_for += 1
            self.waiters = max(self.waiters, reply.waiters)
            if self.votes_for == self.quorum.majority:
                self.finish(Renewed(self.sent_at, self.waiters))
                if self.gone:
                    self.heal(self.gone)
            return
        self.against += 1
        self.refusal = reply
        if reply is GONE:
            self.gone.append(node)
        self.judge()

    def judge(self) -> None:
        """End the round if no majority can renew: refused, or unanswered."""
        end_without_majority(self, self.refusal)


def end_without_majority(round_: Round[Any], refusal: NotOurs | None) -> None:
    """End a round as refused if refusals alone decide that, else once all have answered."""
    if round_.verdict is not Verdict.LOST:
        return
    size = round_.quorum.size
    refused = round_.against - len(round_.failures)
    if refusal is not None and size - refused < round_.quorum.majority:
        round_.finish(refusal)
    elif round_.votes_for + round_.against == size:
        round_.finish(round_.failed())
