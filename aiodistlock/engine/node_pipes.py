"""All pipes of one client to the primaries of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from aiodistlock.core.clock import Clock
from aiodistlock.core.slots import Address
from aiodistlock.engine.greeting import Connection
from aiodistlock.engine.node_pipe import NodePipe, Router
from aiodistlock.engine.nodes import Nodes
from aiodistlock.stores.redis_call import RedisCall


class NodePipes:
    """
    Opens a pipe where the first call goes to a node; closes it when told to.

    :param nodes: how the nodes are reached
    :param router: who gives the pipes their calls; the rest is as for each pipe
    """

    __slots__ = ("_clock", "_former", "_make", "_pipes", "_retired")

    def __init__(
        self,
        nodes: Nodes,
        router: Router,
        *,
        wanted: Callable[[], bool],
        clock: Clock,
        rng: Random,
        unavailable_after: float,
    ) -> None:
        def make(address: Address) -> NodePipe:
            return NodePipe(
                address,
                nodes.at(address),
                router,
                wanted=wanted,
                clock=clock,
                rng=rng,
                unavailable_after=unavailable_after,
            )

        self._make = make
        self._clock = clock
        self._pipes: dict[Address, NodePipe] = {}
        self._retired: list[NodePipe] = []
        self._former: dict[Address, Connection] = {}
        """Connections of retired pipes: killed before another one to the node is used."""

    def __iter__(self) -> Iterator[NodePipe]:
        return iter(list(self._pipes.values()))

    def to(self, address: Address) -> NodePipe:
        """Return the pipe to a node."""
        pipe = self._pipes.get(address)
        if pipe is None:
            pipe = self._pipes[address] = self._make(address)
            pipe.former = self._former.pop(address, ())
        return pipe

    def retire(self, pipe: NodePipe) -> list[RedisCall[Any]]:
        """Close a pipe; return its calls, in order."""
        del self._pipes[pipe.address]
        calls = pipe.take()
        self._former[pipe.address] = pipe.former
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
