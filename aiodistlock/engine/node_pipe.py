"""The pipe to one primary of a cluster: a pipe that is sent elsewhere at times.

Besides what ``engine/pipe.py`` says:

1. A call that is redirected (``MOVED``, ``ASK``) goes back to whoever routes the calls.
2. Grants are heard on sharded channels.  A channel's SSUBSCRIBE goes before the first
   request that names it, on every connection anew, so whoever queues is heard.  Until
   such a request is answered a grant is not believed, but asked about.
3. Calls can be taken away, in order; what is still answered to them is dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Protocol

from redis.exceptions import ResponseError

from aiodistlock.core.clock import Clock, ServerClock
from aiodistlock.core.slots import Address, read_redirect, slot_of
from aiodistlock.engine.greeting import Connection, Greeter, Greeting
from aiodistlock.engine.inbox import Grant, Inbox, read_grant
from aiodistlock.engine.opening import Connector
from aiodistlock.engine.pipe import Pipe
from aiodistlock.engine.silence import ANSWER_WITHIN
from aiodistlock.engine.wire import pack
from aiodistlock.stores.redis_call import RedisCall, is_transient

QUIET = 0.5
"""Seconds without an answer after which others are asked whether the node is alive."""

DOWN_FOR = 1.0
"""Seconds for which a node that does not see the cluster is no witness of it."""

HEARTBEAT = 1.0
"""Seconds of idleness after which a node that we depend on is asked for a sign of life."""


class Router(Protocol):
    """Who gives the pipe its calls; see ``engine/cluster.py``."""

    on_grant: Callable[[Grant, ServerClock], object]
    """Gets each grant, and the clock of the node that sent it."""

    def wants(self, slot: int) -> bool:
        """Tell whether the grants of a slot are to be heard."""
        ...

    def channel(self, slot: int) -> bytes:
        """Return the channel on which a slot's grants are published."""
        ...

    def refused(self, pipe: NodePipe, call: RedisCall[Any], error: ResponseError) -> bool:
        """Take a refused call back; ``False`` if the refusal is its answer."""
        ...

    def deaf(self, error: ResponseError) -> None:
        """Take note that sharded channels cannot be heard at all."""
        ...

    def unsubscribed(self, slot: int) -> None:
        """Take note that the node stopped publishing a slot's grants to us."""
        ...

    def connected(self, pipe: NodePipe) -> None:
        """Take note of a connection: nothing is heard on it yet."""
        ...

    def cancelled(self) -> None:
        """Take note that a pipe's task was cancelled from outside."""
        ...


class NodePipe(Pipe):
    """
    The pipe to one primary.

    :param address: of the node
    :param connector: makes connections to it
    :param router: who gives it calls, and takes them back
    :ivar subscribed: slots whose channel is heard on this connection, or will be before
        whatever is sent next
    """

    def __init__(
        self,
        address: Address,
        connector: Connector,
        router: Router,
        *,
        wanted: Callable[[], bool],
        clock: Clock,
        rng: Random,
        unavailable_after: float,
    ) -> None:
        self.address = address
        self.subscribed: set[int] = set()
        self._subscriptions: list[Greeting] = []
        """What to say before the next request."""
        self._unproven: set[int] = set()
        """Subscribed slots of which the node has answered nothing since: a replica lets
        subscribe, too, and is told by its primary what was granted to nobody."""
        self._router = router
        self._beat_at = 0.0
        self._down_until = 0.0
        # No channel but sharded ones: the second connection of RESP2 is never opened.
        inbox = Inbox(
            connector,
            b"",
            on_grant=lambda _grant, _clock: None,
            on_listening=lambda: None,
            clock=clock,
            rng=rng,
        )
        super().__init__(
            connector,
            inbox,
            on_connected=lambda: router.connected(self),
            on_listening=lambda: None,
            wanted=wanted,
            clock=clock,
            rng=rng,
            unavailable_after=unavailable_after,
        )
        self._keeper.on_cancelled = router.cancelled
        self._greeter = _NodeGreeter(self._say, self._first_subscriptions)

    @property
    def connecting(self) -> bool:
        """Whether a connection is needed, and there is none."""
        return self._wire is None and not self._keeper.ended

    @property
    def ended(self) -> bool:
        """Whether nothing of it runs any more."""
        return self._keeper.ended

    @property
    def former(self) -> Connection:
        """The connection to kill before another one is used."""
        return self._greeter.former

    @former.setter
    def former(self, connection: Connection) -> None:
        self._greeter.former = connection

    def calls(self) -> list[RedisCall[Any]]:
        """Return all calls whose answer somebody wants."""
        return self._backlog.calls()

    def subscribe(self, slot: int) -> None:
        """Hear a slot's grants from before whatever is submitted next."""
        if self._wire is not None:
            self._subscriptions.append(self._subscription(slot))

    def _flush(self) -> None:
        wire, subscriptions = self._wire, self._subscriptions
        if wire is None or not subscriptions:
            super()._flush()
            return
        # In one write with the request that names the channel: nothing gets in between.
        self._subscriptions = []
        with wire.one_write():
            self._say(subscriptions)
            super()._flush()

    def unsubscribe(self, slot: int) -> None:
        """Hear a slot's grants no longer."""
        if self._wire is not None and slot in self.subscribed:
            self.subscribed.discard(slot)
            channel = self._router.channel(slot)
            # Confirmed by a push; a reply is a refusal: the slot has left this node.
            self._say([Greeting((b"SUNSUBSCRIBE", channel), _ignore)])

    def _subscription(self, slot: int) -> Greeting:
        def refused(reply: Any) -> None:
            self.subscribed.discard(slot)
            # Where the slot has moved, the requests behind this are redirected, too.
            moved = read_redirect(str(reply), self.address) is not None
            if not moved and not is_transient(reply):
                self._router.deaf(reply)

        self.subscribed.add(slot)
        return Greeting((b"SSUBSCRIBE", self._router.channel(slot)), refused)

    def _first_subscriptions(self) -> list[Greeting]:
        slots = {call.keys.slot for call in self._backlog.unsent}
        return [self._subscription(slot) for slot in slots if self._router.wants(slot)]

    def ask(self, call: RedisCall[Any]) -> None:
        """
        Send a call that the owner of its slot referred to this node for once (``ASK``).

        Without a connection it goes like any other; the node will refer it back.
        """
        self._flush()
        if self._wire is None:
            self.submit(call)
            return
        call.sent_at = self._clock()
        self._tag = call.tag = self._tag + 1
        self._backlog.sent.extend((Greeting((b"ASKING",), _ignore), call))
        # With its source: a NOSCRIPT would use the permission up.
        self._wire.write(pack((b"ASKING",)) + call.packed_with_source())
        self._look_later()

    def take(self, slots: set[int] | None = None) -> list[RedisCall[Any]]:
        """Take the calls of some slots (or all) away; what is still answered is dropped."""
        return self._backlog.take(lambda call: slots is None or call.keys.slot in slots)

    def quiet(self, now: float) -> bool:
        """Tell whether the node has owed us an answer for too long, or is cut off itself."""
        return now < self._down_until or self._silent_for(now) > QUIET

    def _silent_for(self, now: float) -> float:
        """Return for how long the node has owed us an answer, seconds."""
        wire = self._wire
        if wire is None or not self._backlog.sent:
            return 0.0
        asked_at = self._backlog.first_sent_at()
        asked_at = self._beat_at if asked_at is None else asked_at
        return now - max(asked_at, wire.heard_at)

    def beat(self, now: float) -> None:
        """Ask for a sign of life if there was none for long and nothing is under way."""
        wire = self._wire
        if wire is None:
            return
        if (silence := self._silent_for(now)) > ANSWER_WITHIN:
            # Calls would notice themselves; who only waits to hear its grant has none.
            wire.abort(TimeoutError(f"no sign of life for {silence:.3g} s"))
        elif not self._backlog.sent and now - wire.heard_at > HEARTBEAT:
            self._beat_at = now
            self._say([Greeting((b"PING",), _ignore)])

    def _refused(self, call: RedisCall[Any], error: ResponseError) -> None:
        if str(error).startswith("CLUSTERDOWN"):
            self._down_until = self._clock() + DOWN_FOR
        if not self._router.refused(self, call, error):
            super()._refused(call, error)

    def _received(self, reply: Any) -> None:
        if self._unproven and type(reply) is list:
            head = self._backlog.sent[0] if self._backlog.sent else None
            if isinstance(head, RedisCall):
                self._unproven.discard(head.keys.slot)
        super()._received(reply)

    def _pushed(self, push: list[Any]) -> None:
        kind, sent = push[0], self._backlog.sent
        if kind == b"smessage":
            grant = read_grant(push[2])
            if self._unproven and (slot := slot_of(push[1])) in self._unproven:
                self._router.unsubscribed(slot)
            elif grant is not None:
                self._router.on_grant(grant, self._inbox.server_clock)
        elif kind == b"ssubscribe":
            # Its confirmation stands where the reply to SSUBSCRIBE would.
            sent.popleft()
            self._unproven.add(slot_of(push[1]))
        elif kind == b"sunsubscribe":
            head = sent[0] if sent else None
            if isinstance(head, Greeting) and head.command == (b"SUNSUBSCRIBE", push[1]):
                sent.popleft()
            else:
                # The slot has left this node, or the node is a replica now.
                slot = slot_of(push[1])
                self.subscribed.discard(slot)
                self._router.unsubscribed(slot)

    def _take_back(self) -> None:
        super()._take_back()
        self.subscribed.clear()
        self._unproven.clear()
        self._subscriptions.clear()


class _NodeGreeter(Greeter):
    """Subscribes to the channels that the calls about to be sent again name."""

    def __init__(
        self,
        say: Callable[[list[Greeting]], object],
        subscriptions: Callable[[], list[Greeting]],
    ) -> None:
        super().__init__(b"", say)
        self._subscriptions = subscriptions

    def greetings(self, resp3: bool) -> list[Greeting]:  # noqa: ARG002  # RESP3 always
        return [*super().greetings(resp3=False), *self._subscriptions()]


def _ignore(_reply: Any) -> None:
    """Want no answer."""
