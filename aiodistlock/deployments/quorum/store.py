"""The store on a quorum of independent nodes (Redlock).

Each operation is a round: the same script on all nodes at once, decided by a majority.
Each round of an acquisition votes under a token of its own, so that what undoes one of
them cannot undo the next, in whatever order they reach a node.
There is no queue across nodes, so nobody is granted the lock by message and there is no
order between processes.  Those who wait leave their address on the nodes that refuse
them; a release hints to one of them on each node, and they ask again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import count
from weakref import WeakValueDictionary

from aiodistlock.core.clock import Clock
from aiodistlock.core.keys import LockKeys
from aiodistlock.core.options import to_ms
from aiodistlock.core.value import token_of
from aiodistlock.deployments.quorum.connection import QuorumConnection
from aiodistlock.deployments.quorum.rounds.acquire import Acquire
from aiodistlock.deployments.quorum.rounds.courtesy import Courtesy
from aiodistlock.deployments.quorum.rounds.fenced import Fencing
from aiodistlock.deployments.quorum.rounds.give_up import Abandon, Release
from aiodistlock.deployments.quorum.rounds.inspect import Inspect
from aiodistlock.deployments.quorum.rounds.nodes import Node, Quorum
from aiodistlock.deployments.quorum.rounds.pass_on import PassOn
from aiodistlock.deployments.quorum.rounds.renew import Renew
from aiodistlock.deployments.quorum.votes import INSPECT_LIMIT, LEAST_LIMIT, limit
from aiodistlock.protocol.answers import (
    AbandonReply,
    AcquireReply,
    InspectReply,
    PassOnReply,
    ReleaseReply,
    RenewReply,
)
from aiodistlock.protocol.call import Call
from aiodistlock.protocol.operations import QUEUE_TTL_MS, Operations


class QuorumStore:
    """
    Locks on several independent Redis, of which a majority decides.

    :param nodes: one pipe for each Redis
    :param inbox: where this client hears hints: "<channel> <secret>"
    :param quarantine: seconds for which a node that came up without data is not counted
    :param wall_us: reads the wall clock, in µs, to propose fencing tokens
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        inbox: bytes,
        *,
        quarantine: float,
        clock: Clock,
        wall_us: Callable[[], int],
    ) -> None:
        # A counter for each hash slot: with one for all names the proposals of several clients,
        # which reach the nodes in different orders, would have to be levelled all the time.
        self._operations = Operations(by_slot=True)
        self.quorum = Quorum(nodes, self._operations, clock)
        self.connection = QuorumConnection(self.quorum)
        self._inbox = inbox
        self._fencing = Fencing(wall_us)
        self._quarantine_us = to_ms(quarantine) * 1000
        self._limit = LEAST_LIMIT
        """The longest limit until now; for what comes without a ttl."""
        self._rounds = count(1)
        self._courtesy = Courtesy(clock)
        self._renewals: WeakValueDictionary[bytes, Renew] = WeakValueDictionary()
        """The last renewal of each lease, as long as an answer to it may heal a node."""

    def _limit_of(self, ttl_ms: int) -> float:
        seconds = limit(ttl_ms / 1000)
        self._limit = max(self._limit, seconds)
        return seconds

    def _vote(
        self,
        keys: LockKeys,
        token: bytes,
        ttl_ms: int,
        inbox: bytes,
        on_reply: Callable[[AcquireReply], object] | None,
    ) -> Acquire:
        return Acquire(
            self.quorum,
            keys,
            token,
            ttl_ms,
            inbox=inbox,
            quarantine_us=self._quarantine_us,
            limit=self._limit_of(ttl_ms),
            fencing=self._fencing,
            on_reply=on_reply,
        )

    def acquire(
        self,
        keys: LockKeys,
        token: bytes,
        ttl_ms: int,
        grant_ttl_ms: int | None,
        on_reply: Callable[[AcquireReply], object],
    ) -> Call[AcquireReply]:
        """Take the lock by a majority; where it is held ask for hints, or only try."""
        inbox = b"" if grant_ttl_ms is None else self._inbox
        vote_token = b"%b.%d" % (token, next(self._rounds))
        round_ = self._vote(keys, vote_token, ttl_ms, inbox, on_reply)
        owed = self._courtesy.owed(keys.key) if inbox else 0.0
        if owed:
            round_.stand_back(owed)
        else:
            round_.issue()
        return round_

    def pass_on(
        self,
        keys: LockKeys,
        token: bytes,
        next_token: bytes,  # noqa: ARG002  # there is no queue to wait in
        *,
        ttl_ms: int,
        grant_ttl_ms: int,  # noqa: ARG002  # nobody is granted the lock by message
        highest: int,
        on_reply: Callable[[PassOnReply], object],
    ) -> Call[PassOnReply]:
        """Give the lock up if another process waits for it, else keep it."""
        self._forget(token)

        def passing() -> None:
            self._release(keys, token, highest, self.quorum.clock() + ttl_ms / 1000)

        round_ = PassOn(
            self.quorum,
            keys,
            token,
            ttl_ms,
            limit=self._limit_of(ttl_ms),
            fencing=self._fencing,
            highest=highest,
            passing=passing,
            on_reply=on_reply,
        )
        round_.issue()
        return round_

    def release(
        self, keys: LockKeys, value: bytes, highest: int, until: float
    ) -> Call[ReleaseReply]:
        """Give the lock up on all nodes, each behind what it was asked before."""
        return self._release(keys, token_of(value), highest, until)

    def _release(
        self, keys: LockKeys, token: bytes, highest: int, until: float
    ) -> Call[ReleaseReply]:
        if self._renewals:
            self._forget(token)
        request = self._operations.unvote(keys, token, highest, self._inbox)
        round_ = Release(self.quorum, request, self._limit, until, self._courtesy)
        round_.issue()
        return round_

    def renew(
        self,
        keys: LockKeys,
        value: bytes,
        ttl_ms: int,
        on_reply: Callable[[RenewReply], object] | None = None,
        until: float = math.inf,
    ) -> Call[RenewReply]:
        """Set the remaining time of the lease; nodes that lost it get it anew."""
        # Each node's value ends with the fencing token that it issued itself.
        token = token_of(value)
        request = self._operations.renew_vote(keys, token, ttl_ms)
        seconds = min(self._limit_of(ttl_ms), max(0.0, until - self.quorum.clock()))

        def heal(nodes: list[int]) -> None:
            if self._renewals.get(token) is round_:
                self._vote(keys, token, ttl_ms, b"", None).send(nodes)

        round_ = Renew(self.quorum, request, limit=seconds, heal=heal, on_reply=on_reply)
        self._renewals[token] = round_
        round_.issue()
        return round_

    def _forget(self, token: bytes) -> None:
        """See to it that no answer to a renewal brings a lease back that is given up."""
        self._renewals.pop(token, None)

    def abandon(
        self,
        keys: LockKeys,
        token: bytes,
        grant_ttl_ms: int | None,  # noqa: ARG002  # nobody is granted the lock by message
    ) -> Call[AbandonReply]:
        """Undo an acquisition on all nodes, each behind the request that it undoes."""
        request = self._operations.unvote(keys, token, 0, self._inbox)
        until = self.quorum.clock() + QUEUE_TTL_MS / 1000
        round_ = Abandon(self.quorum, request, self._limit, until)
        round_.issue()
        return round_

    def inspect(self, keys: LockKeys) -> Call[InspectReply]:
        """Ask who holds the lock, as a majority sees it, and who waits anywhere."""
        round_ = Inspect(self.quorum, keys, max(INSPECT_LIMIT, self._limit))
        round_.issue()
        return round_
