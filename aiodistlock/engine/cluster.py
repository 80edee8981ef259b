"""The wire to a Redis Cluster: one pipe per primary, and an eye on each node.

Rules
-----
1. Which way a call goes is for ``engine/routes.py`` to say.
2. While a node is unreachable, or silent though it owes an answer, the other nodes are
   asked who owns its slots.  As long as somebody holds or waits, idle nodes must give
   a sign of life, so that this is noticed in time.
3. Where a slot has changed hands, leases are checked and waiters ask again, at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from random import Random
from typing import Any

from redis.exceptions import ResponseError

from aiodistlock.core.clock import Clock, ServerClock
from aiodistlock.engine.inbox import Grant
from aiodistlock.engine.moves import Moves, OnMoved
from aiodistlock.engine.node_pipe import NodePipe
from aiodistlock.engine.node_pipes import NodePipes
from aiodistlock.engine.nodes import Nodes
from aiodistlock.engine.routes import Routes
from aiodistlock.engine.shards import ShardInboxes
from aiodistlock.engine.topology import Topology, View
from aiodistlock.stores.redis_call import RedisCall

logger = logging.getLogger("aiodistlock")

TICK = 0.2
"""Seconds between two looks at the nodes, while anything is under way."""


class ClusterWire:
    """
    Carries the calls of one ``LockClient`` to the primaries of a cluster.

    :param nodes: how the nodes are reached
    :param prefix: opens the names of the channels on which grants are heard
    :param on_grant: gets each grant, and the clock of the node that sent it
    :param on_moved: told of the slots that another node, or another connection, serves
    :param wanted: whether anybody holds or waits
    :param waited_for: returns the slots in which somebody waits
    :param unavailable_after: seconds without an answer after which a call fails
    """

    def __init__(
        self,
        nodes: Nodes,
        prefix: bytes,
        *,
        on_grant: Callable[[Grant, ServerClock], object],
        on_moved: OnMoved,
        wanted: Callable[[], bool],
        waited_for: Callable[[], set[int]],
        clock: Clock,
        rng: Random,
        unavailable_after: float,
    ) -> None:
        self.on_grant = on_grant
        self._on_moved = on_moved
        self._wanted = wanted
        self._clock = clock
        self._unavailable_after = unavailable_after
        self._loop = asyncio.get_running_loop()
        self._pipes = NodePipes(
            nodes, self, wanted=wanted, clock=clock, rng=rng, unavailable_after=unavailable_after
        )
        self._moves = Moves(on_moved)
        self._timer: asyncio.TimerHandle | None = None
        self._last_error: Exception | None = None
        self._closed = False
        self.stopped = False
        """Whether nothing can be sent any more, at least to one node."""
        self.inboxes = ShardInboxes(
            prefix,
            waited_for=waited_for,
            on_added=self._way_changed,
            on_dropped=self._pipes.unsubscribe,
        )
        self.wants = self.inboxes.wants
        self.channel = self.inboxes.channel
        self._routes = Routes(
            self._pipes,
            self._moves,
            nodes.remap,
            wants=self.wants,
            on_doubt=self._ask_the_nodes,
            clock=clock,
        )
        self.refused = self._routes.refused
        self._direct = self._routes.direct
        self._stranded = self._routes.stranded
        self._topology = Topology(
            nodes,
            rng,
            known=lambda: self._routes.nodes,
            suspected=self._pipes.suspected,
            on_view=self._take_in,
            on_failed=self._no_view,
            on_cancelled=self.cancelled,
        )

    def submit(self, call: RedisCall[Any]) -> None:
        """Send a call to the node that serves its keys."""
        pipe = self._direct.get(call.keys.slot_if_known)
        if pipe is None:
            self._submit_first(call)
        else:
            call.node = pipe
            pipe.submit(call)

    def _submit_first(self, call: RedisCall[Any]) -> None:
        """Send a call whose way is not known yet, or not plain."""
        if self._closed:
            call.issued_at = self._clock()
            call.fail(ConnectionError("the LockClient was closed, or its tasks cancelled"))
            return
        if self._timer is None:
            self._timer = self._loop.call_later(TICK, self._tick)
        self._routes.send(call)

    def _way_changed(self, slot: int) -> None:
        """Think again before the next call of a slot is sent: it is listened to now."""
        self._direct.pop(slot, None)

    def _ask_the_nodes(self) -> None:
        self._topology.refresh()

    def _take_in(self, view: View) -> None:
        self._last_error = None
        self.inboxes.sharded = view.sharded and not self.inboxes.forbidden
        self._routes.take_in(view.ranges)
        self._send_stranded()

    def _send_stranded(self) -> None:
        self._routes.send_stranded(self._unavailable_after, self._last_error)

    def _no_view(self, error: Exception, transient: bool) -> None:
        level = logging.DEBUG if self._last_error else logging.WARNING
        logger.log(level, "no node tells about the cluster: %s: %s", type(error).__name__, error)
        self._last_error = error
        if not transient:
            self._stranded.fail_all(error, transient=False)

    def connected(self, pipe: NodePipe) -> None:
        """Have leases checked and waiters ask again that this node serves."""
        self._on_moved(lambda keys: self._routes.serves(pipe.address, keys.slot))

    def unsubscribed(self, slot: int) -> None:
        """Have the waiters in a slot ask again: that tells where it went."""
        self._moves.note({slot})

    def cancelled(self) -> None:
        """Take note that a task was cancelled from outside: its node is out of reach."""
        self.stopped = True

    def deaf(self, error: ResponseError) -> None:
        """Have waiters poll from now on."""
        if not self.inboxes.forbidden:
            logger.warning("no inbox, waiters poll: SSUBSCRIBE was refused: %s", error)
        self.inboxes.forbid()

    def _tick(self) -> None:
        """Look after the nodes, and after calls that no node took."""
        self._timer = None
        self._send_stranded()
        wanted = self._wanted()
        if wanted:
            self._pipes.beat()
        waiting = wanted or bool(self._stranded) or any(pipe.calls() for pipe in self._pipes)
        if self._stranded or (waiting and self._pipes.suspected()):
            self._topology.refresh()
        else:
            self._topology.settled()
        if not waiting:
            self._direct.clear()
        else:
            self._timer = self._loop.call_later(TICK, self._tick)

    def server_clock(self, call: RedisCall[Any]) -> ServerClock:
        """Return the clock of the node that answered a call."""
        pipe: NodePipe = call.node
        return pipe.server_clock(call)

    def suspect(self, call: RedisCall[Any]) -> None:
        """Break the connection that has been silent since a call was sent."""
        if not self._stranded.holds(call.keys):
            call.node.suspect(call)

    async def aclose(self, within: float = 1.0) -> None:
        """Send what was submitted, wait ``within`` seconds for answers, and close."""
        calls = [call for pipe in self._pipes for call in pipe.calls()]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                for call in (*calls, *self._stranded.calls()):
                    await call
        self.stop()
        await self._topology.join()
        await self._pipes.join()

    def stop(self) -> None:
        """Close at once, without waiting for answers; who still does is told."""
        self._closed = self.stopped = self._moves.stopped = True
        self._direct.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._topology.stop()
        self._pipes.stop()
        self._stranded.fail_all(ConnectionError("the LockClient was closed"), transient=True)

    def disown(self) -> None:
        """Send nothing any more: after a fork the sockets are the parent's, too."""
        self._closed = self.stopped = self._moves.stopped = True
        self._direct.clear()
        self._topology.stopped = True
        self._stranded.forget()
        self._pipes.disown()
