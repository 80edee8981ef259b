"""Going on with a lease: its renewal, and what a cohort does at its bound."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiodistlock.core.keys import LockKeys
from aiodistlock.core.quorum import Verdict
from aiodistlock.stores import scripts
from aiodistlock.stores.answers import (
    Held,
    Kept,
    NotOurs,
    PassOnReply,
    Renewed,
    RenewReply,
)
from aiodistlock.stores.redis_call import bulks
from aiodistlock.stores.replies import DONE, GONE, NOT_OURS
from aiodistlock.stores.rounds.base import Round
from aiodistlock.stores.rounds.courtesy import YIELD
from aiodistlock.stores.rounds.fenced import FencedRound, Fencing
from aiodistlock.stores.rounds.nodes import Quorum


class Renew(Round[RenewReply]):
    """
    Sets the remaining time of a lease on all nodes.

    :param heal: asks nodes that lost the key for their vote again
    """

    __slots__ = ("__weakref__", "gone", "heal", "refusal", "waiters")

    def __init__(
        self,
        quorum: Quorum,
        keys: LockKeys,
        args: bytes,
        *,
        limit: float,
        heal: Callable[[list[int]], object],
        on_reply: Callable[[RenewReply], object] | None,
    ) -> None:
        super().__init__(quorum, scripts.RENEW, keys.packed + args, limit, on_reply)
        self.heal = heal
        self.gone: list[int] = []
        self.refusal: NotOurs | None = None
        self.waiters = 0

    def hear(self, node: int, reply: Any) -> None:
        """Take in an answer; one that comes after the renewal may show a node to heal."""
        if type(self.reply) is Renewed and not self.obsolete:
            if type(reply) is list and reply[0] == GONE:
                self.heal([node])
            return
        super().hear(node, reply)

    def answered(self, node: int, reply: list[Any]) -> None:
        """Count a node that renewed, or remember why one did not."""
        if reply[0] == DONE:
            self.votes_for += 1
            self.waiters = max(self.waiters, reply[2])
            if self.votes_for == self.quorum.majority:
                self.finish(Renewed(self.sent_at, self.waiters))
                if self.gone:
                    self.heal(self.gone)
            return
        self.against += 1
        self.refusal = NOT_OURS[reply[0]]
        if reply[0] == GONE:
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


class Keep(FencedRound[PassOnReply]):
    """
    Keeps a lease with a fresh ttl and fencing token, unless other processes wait.

    :param highest: highest fencing token used by local hand-offs, 0 for none
    :param passing: gives the lease up, with a hint to a waiter
    """

    __slots__ = ("passing", "refusal")

    def __init__(
        self,
        quorum: Quorum,
        keys: LockKeys,
        token: bytes,
        ttl_ms: int,
        *,
        limit: float,
        fencing: Fencing,
        highest: int,
        passing: Callable[[], object],
        on_reply: Callable[[PassOnReply], object],
    ) -> None:
        proposed = fencing.propose()
        rest = keys.packed + bulks(token, ttl_ms, proposed, highest, fencing.retention)
        super().__init__(
            quorum,
            scripts.KEEP,
            keys,
            rest,
            limit=limit,
            fencing=fencing,
            proposed=proposed,
            on_reply=on_reply,
        )
        self.passing = passing
        self.refusal: NotOurs | None = None

    def answered(self, node: int, reply: list[Any]) -> None:
        """Give the lease up at the first sign of a waiter, or count the nodes that keep it."""
        if reply[0] != DONE:
            self.against += 1
            self.refusal = NOT_OURS[reply[0]]
            self.judge()
        elif reply[3] > 0:
            self.obsolete = True
            self.passing()
            self.finish(Held("", YIELD))
        else:
            self.issued(node, reply[2])

    def won(self, fence: int) -> None:
        """Go on with the lease."""
        self.finish(Kept(fence, self.proposed, self.sent_at))

    def judge(self) -> None:
        """End the round if no majority keeps the lease."""
        end_without_majority(self, self.refusal)
        if type(self.reply) is NotOurs:
            # What a minority still has of it must not stand in others' way.  (After a
            # failure the engine releases the lease itself.)
            self.passing()
