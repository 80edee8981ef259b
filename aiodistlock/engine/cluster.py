"""The wire to a Redis Cluster: one pipe per primary, and the way of each call.

Rules
-----
1. A call goes to the owner of its hash slot.  Where that is not known, it waits for
   the next view of the cluster.
2. Calls of one slot keep their order: when a slot moves, everything unanswered is
   taken along before anything new goes to the new owner.  So no clean-up overtakes
   what it undoes.
3. ``MOVED`` moves the slot; ``ASK`` sends this one request on, once.  After
   ``MAX_REDIRECTS`` of them a call fails for a passing reason: its caller asks again.
4. What is refused for a passing reason (``TRYAGAIN``: the slot is on its way, and not
   all keys have arrived) is for the caller to ask again, but a release or an abandon is
   repeated here: nobody might wait for its answer.
5. While a node is unreachable, or silent though it owes an answer, the other nodes are
   asked who owns its slots.  As long as somebody holds or waits, idle nodes must give
   a sign of life, so that this is noticed in time.
6. Where a slot has changed hands, leases are checked and waiters ask again, at once.
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
from aiodistlock.core.slots import Redirect, SlotMap, read_redirect
from aiodistlock.engine.inbox import Grant
from aiodistlock.engine.moves import Moves, OnMoved
from aiodistlock.engine.node_pipe import NodePipe
from aiodistlock.engine.node_pipes import NodePipes
from aiodistlock.engine.nodes import Nodes
from aiodistlock.engine.shards import ShardInboxes
from aiodistlock.engine.stranded import Stranded
from aiodistlock.engine.topology import Topology, View
from aiodistlock.stores import scripts
from aiodistlock.stores.redis_call import RedisCall, is_transient

logger = logging.getLogger("aiodistlock")

MAX_REDIRECTS = 8
"""Redirects of one call in a row."""

TICK = 0.2
"""Seconds between two looks at the nodes, while anything is under way."""

_UNDOING = frozenset({scripts.RELEASE.sharded.sha, scripts.ABANDON.sharded.sha})


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
        self._nodes = nodes
        self.on_grant = on_grant
        self._on_moved = on_moved
        self._wanted = wanted
        self._clock = clock
        self._unavailable_after = unavailable_after
        self._loop = asyncio.get_running_loop()
        self._map = SlotMap()
        self._pipes = NodePipes(
            nodes,
            self,
            wanted=wanted,
            clock=clock,
            rng=rng,
            unavailable_after=unavailable_after,
        )
        self._stranded = Stranded()
        # Pipes of slots that need no thought: served, and not listened to.
        self._direct: dict[int, NodePipe] = {}
        self._moves = Moves(on_moved)
        self._timer: asyncio.TimerHandle | None = None
        self._last_error: Exception | None = None
        self._stopped = False
        self.inboxes = ShardInboxes(
            prefix,
            waited_for=waited_for,
            on_added=lambda slot: self._direct.pop(slot, None),
            on_dropped=self._pipes.unsubscribe,
        )
        self.wants = self.inboxes.wants
        self.channel = self.inboxes.channel
        self._topology = Topology(
            nodes,
            rng,
            known=lambda: self._map.nodes,
            suspected=self._pipes.suspected,
            on_view=self._take_in,
            on_failed=self._no_view,
        )

    def submit(self, call: RedisCall[Any]) -> None:
        """Send a call to the node that serves its keys."""
        pipe = self._direct.get(call.keys.slot)
        if pipe is None or call.script is scripts.PASS_ON:
            self._submit_first(call)
            return
        call.script = call.script.sharded
        call.redirects = 0
        call.node = pipe
        pipe.submit(call)

    def _submit_first(self, call: RedisCall[Any]) -> None:
        """Send a call whose way is not known yet, or not plain."""
        if self._stopped:
            call.issued_at = self._clock()
            call.fail(ConnectionError("the LockClient was closed, or its tasks cancelled"))
            return
        if call.script is scripts.PASS_ON:
            self.inboxes.listen(call.keys)  # it queues, also where we never had to wait
        call.script = call.script.sharded
        call.redirects = 0
        if self._timer is None:
            self._timer = self._loop.call_later(TICK, self._tick)
        self._route(call)

    def _route(self, call: RedisCall[Any]) -> None:
        slot = call.keys.slot
        owner = self._map.owner(slot)
        if owner is None or self._stranded.holds(slot):
            self._strand(call)
            if owner is None:
                self._topology.refresh()
            return
        call.node = pipe = self._pipes.to(owner)
        if not self.wants(slot):
            self._direct[slot] = pipe
        elif slot not in pipe.subscribed:
            pipe.subscribe(slot)
        pipe.submit(call)

    def _strand(self, call: RedisCall[Any]) -> None:
        self._direct.pop(call.keys.slot, None)
        self._stranded.keep(call, self._clock())

    def _route_stranded(self) -> None:
        for call in self._stranded.take(self._clock(), self._unavailable_after, self._last_error):
            self._route(call)

    def refused(self, pipe: NodePipe, call: RedisCall[Any], error: ResponseError) -> bool:
        """Send a call on where the refusal says so; ``False`` if that is its answer."""
        if call.obsolete:
            return False
        redirect = read_redirect(str(error), pipe.address, self._nodes.remap)
        if redirect is not None:
            call.redirects += 1
            if call.redirects <= MAX_REDIRECTS:
                self._redirect(pipe, call, redirect)
                return True
            error = ResponseError(f"TRYAGAIN the nodes disagree on who serves it: {error}")
        if call.script.sha in _UNDOING and is_transient(error):
            self._strand(call)
        elif redirect is not None:
            call.refuse(error)
        else:
            return False
        return True

    def _redirect(self, pipe: NodePipe, call: RedisCall[Any], redirect: Redirect) -> None:
        if redirect.once:
            call.node = target = self._pipes.to(redirect.address)
            target.ask(call)
            return
        slot = redirect.slot
        self._map.move(slot, redirect.address)
        self._direct.pop(slot, None)
        self._moves.note({slot})
        for each in (call, *pipe.take({slot})):
            self._route(each)
        self._topology.refresh()  # where one slot went, others may have gone, too

    def _take_in(self, view: View) -> None:
        """Take in a view: close the pipes to former primaries, and move their calls."""
        self._last_error = None
        self.inboxes.sharded = view.sharded and not self.inboxes.forbidden
        lost = self._map.replace(view.ranges)
        self._direct.clear()
        primaries = self._map.primaries()
        calls = []
        for pipe in self._pipes:
            if pipe.address not in primaries:
                calls += self._pipes.retire(pipe)
            elif pipe.address in lost:
                calls += pipe.take(lost[pipe.address])
        self._moves.note(slot for slots in lost.values() for slot in slots)
        for call in calls:
            self._route(call)
        self._route_stranded()

    def _no_view(self, error: Exception, transient: bool) -> None:
        level = logging.DEBUG if self._last_error else logging.WARNING
        logger.log(level, "no node tells about the cluster: %s: %s", type(error).__name__, error)
        self._last_error = error
        if not transient:
            self._stranded.fail_all(error, transient=False)

    def connected(self, pipe: NodePipe) -> None:
        """Have leases checked and waiters ask again that this node serves."""
        self._on_moved(lambda keys: self._map.owner(keys.slot) == pipe.address)

    def unsubscribed(self, slot: int) -> None:
        """Have the waiters in a slot ask again: that tells where it went."""
        self._moves.note({slot})

    def deaf(self, error: ResponseError) -> None:
        """Have waiters poll from now on."""
        if not self.inboxes.forbidden:
            logger.warning("no inbox, waiters poll: SSUBSCRIBE was refused: %s", error)
        self.inboxes.forbid()

    def _tick(self) -> None:
        """Look after the nodes, and after calls that no node took."""
        self._timer = None
        self._route_stranded()
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
        if not self._stranded.holds(call.keys.slot):
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
        self._stopped = self._moves.stopped = True
        self._direct.clear()
        if self._timer is not None:
            self._timer.cancel()
        self._topology.stop()
        self._pipes.stop()
        self._stranded.fail_all(ConnectionError("the LockClient was closed"), transient=True)

    @property
    def stopped(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._stopped or self._topology.stopped or self._pipes.stopped

    def disown(self) -> None:
        """Send nothing any more: after a fork the sockets are the parent's, too."""
        self._stopped = self._moves.stopped = True
        self._direct.clear()
        self._topology.stopped = True
        self._stranded = Stranded()
        self._pipes.disown()
