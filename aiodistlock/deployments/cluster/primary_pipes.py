"""All pipes of one client to the primaries of a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aiodistlock.connection.numbering import ClusterNumbering
from aiodistlock.core.slots import Address
from aiodistlock.deployments.cluster.members import Members
from aiodistlock.deployments.cluster.primary_pipe import PrimaryPipe, Router
from aiodistlock.protocol.owner import PipeOwner
from aiodistlock.protocol.redis_call import RedisCall


class PrimaryPipes:
    """
    Opens a pipe where the first call goes to a node; closes it when told to.

    :param members: how the nodes are reached
    :param router: who gives the pipes their calls
    :param owner: as for each pipe
    """

    __slots__ = (
        "_clock",
        "_members",
        "_numbering",
        "_owner",
        "_pipes",
        "_retired",
        "_router",
    )

    def __init__(self, members: Members, router: Router, owner: PipeOwner) -> None:
        self._members = members
        self._router = router
        self._owner = owner
        # One for all: what a pipe sent to a slot's former owner is before what another one
        # sends to the next.
        self._numbering = ClusterNumbering()
        self._clock = owner.clock
        self._pipes: dict[Address, PrimaryPipe] = {}
        self._retired: list[PrimaryPipe] = []

    def __iter__(self) -> Iterator[PrimaryPipe]:
        return iter(list(self._pipes.values()))

    def to(self, address: Address) -> PrimaryPipe:
        """Return the pipe to a node."""
        pipe = self._pipes.get(address)
        if pipe is None:
            connector = self._members.at(address)
            pipe = self._pipes[address] = PrimaryPipe(
                address, connector, self._router, self._owner, self._numbering
            )
        return pipe

    def retire(self, pipe: PrimaryPipe) -> list[RedisCall[Any]]:
        """Close a pipe; return its calls, in order."""
        del self._pipes[pipe.address]
        calls = pipe.take()
        pipe.stop()
        self._retired = [each for each in (*self._retired, pipe) if not each.ended]
        return calls

    def suspected(self) -> set[Address]:
        """Return the nodes that cannot be reached, or owe an answer for too long."""
        # One that nobody needs is not connected either, and no reason to ask about it.
        now = self._clock()
        return {pipe.address for pipe in self if pipe.connecting or pipe.quiet(now)}

    def beat(self) -> None:
        """Have every idle node give a sign of life."""
        now = self._clock()
        for pipe in self:
            pipe.beat(now)

    def subscribe_anew(self, slot: int) -> None:
        """Hear all that is to be heard of a slot from its next request on."""
        for pipe in self:
            pipe.subscribed.discard(slot)

    def unsubscribe(self, slot: int) -> None:
        """Hear a slot's grants no longer, at whatever node."""
        for pipe in self:
            pipe.unsubscribe(slot)

    def stop(self) -> None:
        """Close all at once."""
        for pipe in self:
            pipe.stop()

    async def join(self) -> None:
        """Wait until all have ended, those that were retired before, too."""
        for pipe in (*self, *self._retired):
            await pipe.aclose()

    def disown(self) -> None:
        """Send nothing any more, and leave the connections to the parent process."""
        for pipe in self:
            pipe.disown()
