"""The way of each call through a cluster.

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
5. A slot may be on its way for longer than a ttl.  So a renewal or a release that is
   refused with ``TRYAGAIN`` is sent again for the key alone, with what was asked behind
   it: of two renewals the later one counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from redis.exceptions import ResponseError

from aiodistlock.core.clock import Clock
from aiodistlock.core.slots import Address, Redirect, Remap, SlotMap, SlotRange, read_redirect
from aiodistlock.deployments.cluster.moved_slots import MovedSlots
from aiodistlock.deployments.cluster.primary_pipe import PrimaryPipe
from aiodistlock.deployments.cluster.primary_pipes import PrimaryPipes
from aiodistlock.deployments.cluster.unroutable import Unroutable
from aiodistlock.protocol import scripts
from aiodistlock.protocol.redis_call import RedisCall
from aiodistlock.protocol.refusals import error_code, is_transient

MAX_REDIRECTS = 8
"""Redirects of one call in a row."""

_ALONE = {
    scripts.ON_CLUSTER.release: scripts.RELEASE_ALONE.sharded,
    scripts.ON_CLUSTER.renew: scripts.RENEW_ALONE,
    scripts.ON_CLUSTER.release_permits: scripts.RELEASE_PERMITS_ALONE.sharded,
    scripts.RENEW_PERMITS: scripts.RENEW_PERMITS_ALONE,
}
_UNDOING = (
    scripts.ON_CLUSTER.release,
    _ALONE[scripts.ON_CLUSTER.release],
    scripts.ON_CLUSTER.abandon,
    scripts.ON_CLUSTER.release_permits,
    _ALONE[scripts.ON_CLUSTER.release_permits],
    scripts.ON_CLUSTER.abandon_permits,
)


class Routes:
    """
    Decides which pipe a call goes to, and takes along what has to follow it.

    :param pipes: to the primaries
    :param moved_slots: told of the slots that have changed hands
    :param remap: says how a node is reached from here
    :param wants: tells whether the grants of a slot are to be heard
    :param on_doubt: told when what is known of the cluster has proved wrong, or lacking
    :ivar direct: pipes of slots that need no thought: served, and not listened to
    :ivar unroutable: calls that no node takes now
    """

    __slots__ = (
        "_clock",
        "_map",
        "_moved_slots",
        "_on_doubt",
        "_pipes",
        "_remap",
        "_wants",
        "direct",
        "unroutable",
    )

    def __init__(
        self,
        pipes: PrimaryPipes,
        moved_slots: MovedSlots,
        remap: Remap | None,
        *,
        wants: Callable[[int], bool],
        on_doubt: Callable[[], object],
        clock: Clock,
    ) -> None:
        self._pipes = pipes
        self._moved_slots = moved_slots
        self._remap = remap
        self._wants = wants
        self._on_doubt = on_doubt
        self._clock = clock
        self._map = SlotMap()
        self.direct: dict[int, PrimaryPipe] = {}
        self.unroutable = Unroutable()

    @property
    def nodes(self) -> frozenset[Address]:
        """Every node heard of in the last whole view, replicas included."""
        return self._map.nodes

    def serves(self, address: Address, slot: int) -> bool:
        """Tell whether a node owns a slot."""
        return self._map.owner(slot) == address

    def way_to(self, slot: int) -> PrimaryPipe | None:
        """Return the pipe to the owner of a slot, ``None`` while that is not plain."""
        owner = self._map.owner(slot)
        return None if owner is None or self.unroutable.concerns(slot) else self._pipes.to(owner)

    def send(self, call: RedisCall[Any]) -> None:
        """Give a call to the pipe of its slot's owner."""
        slot = call.keys.slot
        owner = self._map.owner(slot)
        if owner is None or self.unroutable.holds(call.keys):
            self._set_aside(call)
            if owner is None:
                self._on_doubt()
            return
        call.pipe = pipe = self._pipes.to(owner)
        if self._wants(slot):
            if slot not in pipe.subscribed:
                pipe.subscribe(slot)
        elif not self.unroutable.concerns(slot):
            self.direct[slot] = pipe
        pipe.submit(call)

    def _set_aside(self, call: RedisCall[Any]) -> None:
        self.direct.pop(call.keys.slot, None)
        self.unroutable.keep(call, self._clock())

    def send_unroutable(self, patience: float, error: Exception | None) -> None:
        """
        Send what is unroutable, but what has waited for longer than it may.

        :param patience: seconds
        :param error: what kept it from being sent
        """
        for call in self.unroutable.take(self._clock(), patience, error):
            self.send(call)

    def refused(self, pipe: PrimaryPipe, call: RedisCall[Any], error: ResponseError) -> bool:
        """Send a call on where the refusal says so; ``False`` if that is its answer."""
        if call.obsolete:
            return False
        redirect = read_redirect(str(error), pipe.address, self._remap)
        if redirect is not None:
            call.redirects = getattr(call, "redirects", 0) + 1
            if call.redirects <= MAX_REDIRECTS:
                self._redirect(pipe, call, redirect)
                return True
            error = ResponseError(f"TRYAGAIN the nodes disagree on who serves it: {error}")
        alone = _ALONE.get(call.script) if error_code(error) == "TRYAGAIN" else None
        if redirect is None and alone is not None:
            call.script = alone
            self._send_again(pipe, call)
        elif call.script in _UNDOING and is_transient(error):
            self._set_aside(call)
        elif redirect is not None:
            call.refuse(error)
        else:
            return False
        return True

    def _send_again(self, pipe: PrimaryPipe, call: RedisCall[Any]) -> None:
        """Send a refused call once more, and behind it again what was asked after it."""
        slot = call.keys.slot
        behind = pipe.take({slot})
        owner = self._map.owner(slot)
        if owner is not None and owner != pipe.address:
            # The call had been referred to this node (ASK); the others have not yet.
            behind += self._pipes.to(owner).take({slot})
        for each in (call, *behind):
            self.send(each)

    def _redirect(self, pipe: PrimaryPipe, call: RedisCall[Any], redirect: Redirect) -> None:
        if redirect.once:
            call.pipe = target = self._pipes.to(redirect.address)
            target.ask(call)
            return
        slot = redirect.slot
        self._map.move(slot, redirect.address)
        self._moved_slots.note({slot})
        for each in (call, *pipe.take({slot})):
            self.send(each)
        self._on_doubt()  # where one slot went, others may have gone, too

    def take_in(self, ranges: list[SlotRange]) -> None:
        """Take in a view: close the pipes to former primaries, and move their calls."""
        lost = self._map.replace(ranges)
        self.direct.clear()
        primaries = self._map.primaries()
        calls = []
        for pipe in self._pipes:
            if pipe.address not in primaries:
                calls += self._pipes.retire(pipe)
            elif pipe.address in lost:
                calls += pipe.take(lost[pipe.address])
        self._moved_slots.note(slot for slots in lost.values() for slot in slots)
        for call in calls:
            self.send(call)
