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
from functools import lru_cache
from itertools import count
from typing import Any
from weakref import WeakValueDictionary

from anyio import create_task_group

from aiodistlock.core.clock import Clock, ServerClock
from aiodistlock.core.keys import LockKeys
from aiodistlock.core.options import to_ms
from aiodistlock.core.quorum import LEAST_LIMIT, LOOK_LIMIT, limit
from aiodistlock.stores.answers import (
    AbandonReply,
    AcquireReply,
    InspectReply,
    PassOnReply,
    ReleaseReply,
    RenewReply,
)
from aiodistlock.stores.base import Call
from aiodistlock.stores.redis_call import bulks
from aiodistlock.stores.rounds.acquire import Acquire
from aiodistlock.stores.rounds.base import Round
from aiodistlock.stores.rounds.courtesy import Courtesy
from aiodistlock.stores.rounds.fenced import Fencing
from aiodistlock.stores.rounds.give_up import Abandon, Release
from aiodistlock.stores.rounds.keep import Keep, Renew
from aiodistlock.stores.rounds.look import Look
from aiodistlock.stores.rounds.nodes import Node, Quorum
from aiodistlock.stores.single import QUEUE_TTL_MS


@lru_cache(maxsize=8)
def _vote_args(retention: bytes, inbox: bytes, quarantine_us: int) -> bytes:
    """Pack the arguments of ``vote.lua`` that are mostly the same."""
    return bulks(retention, inbox, QUEUE_TTL_MS, quarantine_us)


class QuorumStore:
    """
    Locks on several independent Redis, of which a majority decides.

    :param nodes: one pipe for each Redis
    :param channel: the inbox, on which this client hears hints
    :param fence_retention: seconds for which a fence counter outlives its last lease
    :param quarantine: seconds for which a node that came up without data is not counted
    :param wall_us: reads the wall clock, in µs, to propose fencing tokens
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        channel: bytes,
        *,
        fence_retention: float,
        quarantine: float,
        clock: Clock,
        wall_us: Callable[[], int],
    ) -> None:
        self.quorum = Quorum(nodes, clock)
        self._channel = channel
        self._fencing = Fencing(wall_us, b"%d" % to_ms(fence_retention))
        self._quarantine_us = to_ms(quarantine) * 1000
        self._not_reported = bulks(0, self._fencing.retention, channel)
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
        args = _vote_args(self._fencing.retention, inbox, self._quarantine_us)
        return Acquire(
            self.quorum,
            keys,
            token,
            ttl_ms,
            args=args,
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
        inbox = b"" if grant_ttl_ms is None else self._channel
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
            self.release(keys, token, highest, self.quorum.clock() + ttl_ms / 1000)

        round_ = Keep(
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
        self, keys: LockKeys, token: bytes, highest: int, until: float
    ) -> Call[ReleaseReply]:
        """Give the lock up on all nodes, each behind what it was asked before."""
        if self._renewals:
            self._forget(token)
        rest = self._not_reported
        if highest:
            rest = bulks(highest, self._fencing.retention, self._channel)
        args = b"$%d\r\n%b\r\n%b" % (len(token), token, rest)
        round_ = Release(self.quorum, keys, args, self._limit, until, self._courtesy)
        round_.issue()
        return round_

    def renew(
        self,
        keys: LockKeys,
        token: bytes,
        ttl_ms: int,
        on_reply: Callable[[RenewReply], object] | None = None,
        until: float = math.inf,
    ) -> Call[RenewReply]:
        """Set the remaining time of the lease; nodes that lost it get it anew."""
        args = bulks(token, ttl_ms, self._fencing.retention)
        seconds = min(self._limit_of(ttl_ms), max(0.0, until - self.quorum.clock()))

        def heal(nodes: list[int]) -> None:
            if self._renewals.get(token) is round_:
                self._vote(keys, token, ttl_ms, b"", None).send(nodes)

        round_ = Renew(self.quorum, keys, args, limit=seconds, heal=heal, on_reply=on_reply)
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
        args = b"$%d\r\n%b\r\n%b" % (len(token), token, self._not_reported)
        until = self.quorum.clock() + QUEUE_TTL_MS / 1000
        round_ = Abandon(self.quorum, keys, args, self._limit, until)
        round_.issue()
        return round_

    def inspect(self, keys: LockKeys) -> Call[InspectReply]:
        """Ask who holds the lock, as a majority sees it, and who waits anywhere."""
        round_ = Look(self.quorum, keys, max(LOOK_LIMIT, self._limit))
        round_.issue()
        return round_

    def listen(self, keys: LockKeys) -> bool:  # noqa: ARG002  # one channel for all
        """See to it that hints are heard soon; nobody is granted a lease by message."""
        for node in self.quorum.nodes:
            node.listen()
        return False

    def server_clock(self, call: Call[Any]) -> ServerClock:  # noqa: ARG002  # as it says
        """Return a clock that nobody reads: there are no grants to date."""
        return ServerClock()

    def suspect(self, call: Call[Any]) -> None:
        """Take note that a round stayed unanswered for longer than it should."""
        if isinstance(call, Round):
            for node, vote in zip(self.quorum.nodes, call.votes, strict=False):
                if vote is not None and vote.reply is None:
                    node.suspect(vote)

    async def aclose(self) -> None:
        """Send what was issued, within a bound, and close all pipes."""
        async with create_task_group() as group:
            for node in self.quorum.nodes:
                group.start_soon(node.aclose)
        self.quorum.stop()

    def stop(self) -> None:
        """Close all pipes at once."""
        self.quorum.stop()
        for node in self.quorum.nodes:
            node.stop()

    @property
    def stopped(self) -> bool:
        """Whether nothing can be sent any more."""
        return any(node.stopped for node in self.quorum.nodes)

    def disown(self) -> None:
        """Send nothing any more: after a fork the connections are the parent's."""
        for node in self.quorum.nodes:
            node.disown()
