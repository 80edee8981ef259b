"""What a cohort does at its bound: it keeps the lease, unless another process waits."""

from __future__ import annotations

from collections.abc import Callable

from aiodistlock.core.keys import LockKeys
from aiodistlock.deployments.quorum.rounds.courtesy import YIELD
from aiodistlock.deployments.quorum.rounds.fenced import FencedRound, Fencing
from aiodistlock.deployments.quorum.rounds.nodes import Quorum
from aiodistlock.deployments.quorum.rounds.renew import end_without_majority
from aiodistlock.protocol.answers import (
    Held,
    Kept,
    NotOurs,
    PassOnReply,
    Voted,
)


class PassOn(FencedRound[PassOnReply]):
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
        super().__init__(
            quorum,
            quorum.operations.keep(keys, token, ttl_ms, proposed=proposed, highest=highest),
            limit=limit,
            fencing=fencing,
            proposed=proposed,
            on_reply=on_reply,
        )
        self.passing = passing
        self.refusal: NotOurs | None = None

    def answered(self, node: int, reply: Voted | NotOurs) -> None:
        """Give the lease up at the first sign of a waiter, or count the nodes that keep it."""
        if isinstance(reply, NotOurs):
            self.against += 1
            self.refusal = reply
            self.judge()
        elif reply.waiters > 0:
            self.obsolete = True
            self.passing()
            self.finish(Held("", YIELD))
        else:
            self.issued(node, reply.fence)

    def won(self, fence: int) -> None:
        """Go on with the lease."""
        self.finish(Kept(fence, fence, self.sent_at))

    def judge(self) -> None:
        """End the round if no majority keeps the lease."""
        end_without_majority(self, self.refusal)
        if type(self.reply) is NotOurs:
            # What a minority still has of it must not stand in others' way.  (After a
            # failure the engine releases the lease itself.)
            self.passing()
