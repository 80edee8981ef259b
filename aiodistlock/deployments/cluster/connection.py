"""The connection to a Redis Cluster: one pipe per primary, and an eye on each node.

Rules
-----
1. Which way a call goes is for ``deployments/cluster/routes.py`` to say.
2. While a node is unreachable, or silent though it owes an answer, the other nodes are
   asked who owns its slots.  As long as somebody holds or waits, idle nodes must give
   a sign of life, so that this is noticed in time.
3. Where a slot has changed hands, leases are checked and waiters ask again, at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Sequence
from typing import Any

from aiodistlock.connection.greeting import NO_ANNOUNCEMENTS
from aiodistlock.core.clock import ServerClock
from aiodistlock.core.escaping import described, message_of
from aiodistlock.core.keys import ANNOUNCING, LockKeys
from aiodistlock.deployments.cluster.inboxes import ShardInboxes
from aiodistlock.deployments.cluster.members import Members
from aiodistlock.deployments.cluster.moved_slots import MovedSlots
from aiodistlock.deployments.cluster.primary_pipe import PrimaryPipe
from aiodistlock.deployments.cluster.primary_pipes import PrimaryPipes
from aiodistlock.deployments.cluster.routes import Routes
from aiodistlock.deployments.cluster.topology import Topology, View
from aiodistlock.protocol.call import Call
from aiodistlock.protocol.connection import Line
from aiodistlock.protocol.owner import Owner
from aiodistlock.protocol.redis_call import RedisCall

logger = logging.getLogger("aiodistlock")

TICK = 0.2
"""Seconds between two looks at the nodes, while anything is under way."""


class ClusterConnection:
    """
    Carries the calls of one ``LockClient`` to the primaries of a cluster.

    :param members: how the nodes are reached
    :param prefix: opens the names of the channels on which grants are heard
    :param secret: by which grants are told from what anybody else publishes there
    :param owner: told of each grant, and of the slots that another node, or another
        connection, serves
    """

    def __init__(self, members: Members, prefix: bytes, secret: bytes, owner: Owner) -> None:
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._pipes = PrimaryPipes(members, self, owner)
        self._moved_slots = MovedSlots(owner)
        self._timer: asyncio.TimerHandle | None = None
        self._last_error: Exception | None = None
        self._closed = False
        self.stopped = False
        """Whether nothing can be sent any more, at least to one node."""
        self.was_let_in = False
        """Whether any node let us in."""
        self.inboxes = ShardInboxes(
            prefix,
            secret,
            waited_for=lambda: {keys.slot for keys in owner.waited_for()},
            on_added=self._way_changed,
            on_widened=self._pipes.subscribe_anew,
            on_dropped=self._pipes.unsubscribe,
        )
        self.listen = self.inboxes.listen
        self.wants, self.channels = self.inboxes.wants, self.inboxes.channels
        self.hear_leaders = self.inboxes.hear_leaders
        self._routes = Routes(
            self._pipes,
            self._moved_slots,
            members.remap,
            wants=self.wants,
            on_doubt=self.doubt,
            clock=owner.clock,
        )
        self.refused = self._routes.refused
        self._direct = self._routes.direct
        self._unroutable = self._routes.unroutable
        self._topology = Topology(
            members,
            owner.rng,
            known=lambda: self._routes.nodes,
            suspected=self._pipes.suspected,
            on_view=self._take_in,
            on_failed=self._no_view,
            on_cancelled=self.cancelled,
            patience=owner.options.unavailable_after,
        )

    def hear(self, channel: bytes, message: bytes, server_clock: ServerClock) -> None:
        """Take in a message, which the node with that clock sent."""
        if channel.startswith(ANNOUNCING):
            self._owner.on_announced(channel)
        else:
            self.inboxes.deliver(message, self._owner, server_clock)

    @property
    def online(self) -> bool:
        """Whether a connection to any node is open."""
        return any(pipe.online for pipe in self._pipes)

    @property
    def heard_at(self) -> float:
        """Local instant at which anything came last from any node, -inf if nothing did."""
        return max((pipe.heard_at for pipe in self._pipes), default=-math.inf)

    def submit(self, call: RedisCall[Any]) -> None:
        """Send a call to the node that serves its keys."""
        pipe = self._direct.get(call.keys.slot_if_known)
        if pipe is None:
            self._submit_first(call)
        else:
            call.pipe = pipe
            pipe.submit(call)

    def _submit_first(self, call: RedisCall[Any]) -> None:
        """Send a call whose way is not known yet, or not plain."""
        if self._closed:
            call.issued_at = self._owner.clock()
            call.fail(ConnectionError("the LockClient was closed, or its tasks cancelled"))
            return
        if self._timer is None:
            self._timer = self._loop.call_later(TICK, self._tick)
        self._routes.send(call)

    def _way_changed(self, slot: int) -> None:
        """Think again before the next call of a slot is sent: it is listened to now."""
        self._direct.pop(slot, None)

    def doubt(self) -> None:
        """Ask the nodes who serves what."""
        self._topology.refresh()

    def _take_in(self, view: View) -> None:
        self._last_error = None
        self.inboxes.sharded = view.sharded and not self.inboxes.forbidden
        self._routes.take_in(view.ranges)
        self._send_unroutable()

    def _send_unroutable(self) -> None:
        self._routes.send_unroutable(self._owner.options.unavailable_after, self._last_error)

    def _no_view(self, error: Exception, transient: bool) -> None:
        level = logging.DEBUG if self._last_error else logging.WARNING
        logger.log(level, "no node tells about the cluster: %s", described(error))
        self._last_error = error
        if not (transient or self.was_let_in):
            self._unroutable.fail_all(error, transient=False)

    def connected(self, pipe: PrimaryPipe) -> None:
        """Have leases checked and waiters ask again that this node serves."""
        self.was_let_in = True
        self._owner.on_moved(lambda keys: self._routes.serves(pipe.address, keys.slot))

    def unsubscribed(self, slot: int) -> None:
        """Have the waiters in a slot ask again: that tells where it went."""
        self._moved_slots.note({slot})

    def cancelled(self) -> None:
        """Take note that a task was cancelled from outside: its node is out of reach."""
        self.stopped = True

    def unannounced(self, slot: int, channel: bytes, error: Exception) -> bool:
        """Have observers poll, if leaders are announced on a channel that is refused."""
        if not self.inboxes.refused(slot, channel):
            return False
        logger.warning(NO_ANNOUNCEMENTS, message_of(error))
        return True

    def deaf(self, error: Exception) -> None:
        """Have waiters poll from now on."""
        if not self.inboxes.forbidden:
            logger.warning("no inbox, waiters poll: SSUBSCRIBE was refused: %s", message_of(error))
        self.inboxes.forbid()

    def _tick(self) -> None:
        """Look after the nodes, and after calls that no node took."""
        self._timer = None
        self._send_unroutable()
        wanted = self._owner.busy()
        if wanted:
            self._pipes.beat()
        waiting = wanted or bool(self._unroutable) or any(pipe.calls() for pipe in self._pipes)
        if self._unroutable or (waiting and self._pipes.suspected()):
            self._topology.refresh()
        else:
            self._topology.calm()
        if not waiting:
            self._direct.clear()
        else:
            self._timer = self._loop.call_later(TICK, self._tick)

    def line(self, keys: LockKeys) -> Line | None:
        """Return the connection to the node that serves the keys, if they are heard there."""
        if self._closed or not self.wants(keys.slot):
            return None
        pipe = self._routes.way_to(keys.slot)
        return None if pipe is None else pipe.line(keys)

    def server_clock(self, call: Call[Any]) -> ServerClock:
        """Return the clock of the node that answered a call."""
        assert isinstance(call, RedisCall), "it was submitted"
        pipe: PrimaryPipe = call.pipe
        return pipe.server_clock(call)

    def excuses(self, call: Call[Any]) -> Sequence[Exception]:
        """Return why a call has no answer yet, as far as that is known."""
        assert isinstance(call, RedisCall), "it was submitted"
        # One that no node ever took may have been given up in this very turn of the loop.
        pipe: PrimaryPipe | None = getattr(call, "pipe", None)
        if pipe is None or self._unroutable.holds(call.keys):
            return () if self._last_error is None else (self._last_error,)
        return pipe.excuses(call)

    def suspect(self, call: Call[Any]) -> None:
        """Break the connection that has been silent since a call was sent."""
        assert isinstance(call, RedisCall), "it was submitted"
        if not self._unroutable.holds(call.keys):
            call.pipe.suspect(call)

    async def aclose(self, within: float = 1.0) -> None:
        """Send what was submitted, wait ``within`` seconds for answers, and close."""
        calls = [call for pipe in self._pipes for call in pipe.calls()]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                for call in (*calls, *self._unroutable.calls()):
                    await call
        self.stop()
        await self._topology.join()
        await self._pipes.join()

    def stop(self) -> None:
        """Close at once, without waiting for answers; who still does is told."""
        self._closed = self.stopped = self._moved_slots.stopped = True
        self._direct.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._topology.stop()
        self._pipes.stop()
        self._unroutable.fail_all(ConnectionError("the LockClient was closed"), transient=True)

    def disown(self) -> None:
        """Send nothing any more: after a fork the sockets are the parent's, too."""
        self._closed = self.stopped = self._moved_slots.stopped = True
        self._direct.clear()
        self._topology.stopped = True
        self._unroutable.forget()
        self._pipes.disown()
