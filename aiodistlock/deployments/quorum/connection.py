"""The pipes to all nodes of a quorum, as one connection."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from anyio import create_task_group

from aiodistlock.core.clock import ServerClock
from aiodistlock.core.keys import LockKeys
from aiodistlock.deployments.quorum.rounds.nodes import Quorum
from aiodistlock.deployments.quorum.rounds.round import Round
from aiodistlock.protocol.call import Call


class QuorumConnection:
    """The connections of a quorum: to a majority, for most that matters."""

    def __init__(self, quorum: Quorum) -> None:
        self._quorum = quorum

    def listen(self, keys: LockKeys) -> bool:
        """See to it that hints are heard soon; nobody is granted a lease by message."""
        for node in self._quorum.nodes:
            node.listen(keys)
        return False

    def line(self, keys: LockKeys) -> None:
        """Return none: nobody recalls a lease of a majority."""

    def server_clock(self, call: Call[Any]) -> ServerClock:  # noqa: ARG002  # as it says
        """Return a clock that nobody reads: there are no grants to date."""
        return ServerClock()

    def excuses(self, call: Call[Any]) -> Sequence[Exception]:
        """Return what the nodes that failed so far have said."""
        assert isinstance(call, Round)
        return [call.failures[node].cause for node in sorted(call.failures)]

    def suspect(self, call: Call[Any]) -> None:
        """Take note that a round stayed unanswered for longer than it should."""
        if isinstance(call, Round):
            for node, vote in zip(self._quorum.nodes, call.votes, strict=False):
                if vote is not None and vote.reply is None:
                    node.suspect(vote)

    async def aclose(self) -> None:
        """Send what was issued, within a bound, and close all pipes."""
        async with create_task_group() as group:
            for node in self._quorum.nodes:
                group.start_soon(node.aclose)
        self._quorum.stop()

    def stop(self) -> None:
        """Close all pipes at once."""
        self._quorum.stop()
        for node in self._quorum.nodes:
            node.stop()

    @property
    def online(self) -> bool:
        """Whether the connections to a majority are open."""
        return sum(node.online for node in self._quorum.nodes) >= self._quorum.majority

    @property
    def heard_at(self) -> float:
        """Local instant since which something came from a majority, -inf if nothing did."""
        heard = sorted((node.heard_at for node in self._quorum.nodes), reverse=True)
        return heard[self._quorum.majority - 1]

    @property
    def stopped(self) -> bool:
        """Whether nothing can be sent any more."""
        return any(node.stopped for node in self._quorum.nodes)

    def disown(self) -> None:
        """Send nothing any more: after a fork the connections are the parent's."""
        for node in self._quorum.nodes:
            node.disown()
