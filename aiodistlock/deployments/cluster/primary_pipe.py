"""The pipe to one primary of a cluster: a pipe that is sent elsewhere at times.

Besides what ``connection/pipe.py`` says:

1. A call that is redirected (``MOVED``, ``ASK``) goes back to whoever routes the calls.
2. Grants are heard on sharded channels.  A channel's SSUBSCRIBE goes before the first
   request that names it, on every connection anew, so whoever queues is heard.  Until
   such a request is answered a grant is not believed, but asked about.
3. Calls can be taken away, in order; what is still answered to them is dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from redis.exceptions import ResponseError

from aiodistlock.connection.greeting import Greeter, Greeting
from aiodistlock.connection.handshake import Handshake
from aiodistlock.connection.inbox import Inbox
from aiodistlock.connection.numbering import Numbering
from aiodistlock.connection.opening import Connector, Opener
from aiodistlock.connection.pipe import Pipe
from aiodistlock.connection.silence import ANSWER_WITHIN
from aiodistlock.connection.unsupported_commands import MOST_CUT_OFF
from aiodistlock.connection.wire import Wire, pack
from aiodistlock.core.clock import ServerClock
from aiodistlock.core.keys import LockKeys
from aiodistlock.core.slots import Address, read_redirect, slot_of
from aiodistlock.protocol.owner import PipeOwner
from aiodistlock.protocol.redis_call import RedisCall
from aiodistlock.protocol.refusals import is_transient

QUIET = 0.5
"""Seconds without an answer after which others are asked whether the node is alive."""

DOWN_FOR = 1.0
"""Seconds for which a node that does not see the cluster is no witness of it."""

HEARTBEAT = 1.0
"""Seconds of idleness after which a node that we depend on is asked for a sign of life."""


class Router(Protocol):
    """Who gives the pipe its calls, and takes them back; see ``connection.py``."""

    was_let_in: bool
    """Whether any node let us in: then a refusal of our credentials passes."""

    def hear(self, channel: bytes, message: bytes, server_clock: ServerClock) -> None:
        """Take in a message, which the node with that clock sent."""
        ...

    def wants(self, slot: int) -> bool:
        """Tell whether the grants of a slot are to be heard."""
        ...

    def channels(self, slot: int) -> list[bytes]:
        """Return the channels to hear: that of a slot's grants, and those of its leaders."""
        ...

    def refused(self, pipe: PrimaryPipe, call: RedisCall[Any], error: Exception) -> bool:
        """Take a refused call back; ``False`` if the refusal is its answer."""
        ...

    def unannounced(self, slot: int, channel: bytes, error: Exception) -> bool:
        """Take note that a channel was refused; ``False`` if no leader is announced there."""
        ...

    def deaf(self, error: Exception) -> None:
        """Take note that sharded channels cannot be heard at all."""
        ...

    def unsubscribed(self, slot: int) -> None:
        """Take note that the node stopped publishing a slot's grants to us."""
        ...

    def doubt(self) -> None:
        """Take note that slots have changed hands, of which nothing more is known."""
        ...

    def connected(self, pipe: PrimaryPipe) -> None:
        """Take note of a connection: nothing is heard on it yet."""
        ...

    def cancelled(self) -> None:
        """Take note that a pipe's task was cancelled from outside."""
        ...


class PrimaryPipe(Pipe):
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
        owner: PipeOwner,
        numbering: Numbering,
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
        inbox = Inbox(Opener(connector), b"", b"", owner, lambda _grant, _clock: None)
        opener = Opener(connector, Handshake(resp2=False))
        super().__init__(opener, inbox, owner, numbering)
        self._left: set[int] = set()  # slots of what went again over this connection
        self._greeter = _PrimaryGreeter(self._say, self._first_subscriptions, router.deaf)

    @property
    def connecting(self) -> bool:
        """Whether a connection is needed, and there is none."""
        return self._wire is None and not self._keeper.ended

    @property
    def ended(self) -> bool:
        """Whether nothing of it runs any more."""
        return self._keeper.ended

    def cancelled(self) -> None:
        """Take note that the node is out of reach for good."""
        self._router.cancelled()

    def _connected(self) -> None:
        self._router.connected(self)

    def _was_let_in(self) -> bool:
        return self._router.was_let_in

    def calls(self) -> list[RedisCall[Any]]:
        """Return all calls whose answer somebody wants."""
        return self._backlog.calls()

    def subscribe(self, slot: int) -> None:
        """Hear a slot's grants from before whatever is submitted next."""
        if self._wire is not None:
            self._subscriptions += self._subscriptions_to(slot)

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
            # Confirmed by a push; a reply is a refusal: the slot has left this node.
            channels = self._router.channels(slot)
            self._say([Greeting((b"SUNSUBSCRIBE", each), _ignore) for each in channels])

    def _subscriptions_to(self, slot: int) -> list[Greeting]:
        def refused(channel: bytes, reply: Any) -> None:
            self.subscribed.discard(slot)
            # Where the slot has moved, the requests behind this are redirected, too.
            moved = read_redirect(str(reply), self.address) is not None
            if moved or is_transient(reply) or self._router.unannounced(slot, channel, reply):
                return
            self._router.deaf(reply)

        self.subscribed.add(slot)
        channels = self._router.channels(slot)
        return [Greeting((b"SSUBSCRIBE", each), partial(refused, each)) for each in channels]

    def _first_subscriptions(self) -> list[Greeting]:
        slots = {call.keys.slot for call in self._backlog.unsent}
        wanted = [slot for slot in slots if self._router.wants(slot)]
        return [each for slot in wanted for each in self._subscriptions_to(slot)]

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
        self._numbering.number(call)
        self._backlog.sent.extend((Greeting((b"ASKING",), _ignore), call))
        # With its source: a NOSCRIPT would use the permission up.
        self._wire.write(pack((b"ASKING",)) + self._numbering.packed(call, source=True))
        self._look_later()

    def take(self, slots: set[int] | None = None) -> list[RedisCall[Any]]:
        """Take the calls of some slots (or all) away; what is still answered is dropped."""
        sent_to = self._backlog.slots()
        self._numbering.give_up(sent_to if slots is None else sent_to & slots)
        return self._backlog.take(lambda call: slots is None or call.keys.slot in slots)

    def _resend_with_source(self, call: RedisCall[Any], error: ResponseError) -> None:
        self._left |= self._backlog.slots()
        super()._resend_with_source(call, error)

    def line(self, keys: LockKeys) -> Wire | None:
        """Return the connection, if the channel of the keys' slot is heard there."""
        slot = keys.slot
        return self._wire if slot in self.subscribed and slot not in self._unproven else None

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
            if self._unproven and (slot := slot_of(push[1])) in self._unproven:
                self._router.unsubscribed(slot)
            else:
                self._router.hear(push[1], push[2], self._inbox.server_clock)
        elif kind == b"ssubscribe":
            self._confirmed(b"SSUBSCRIBE", push)
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
        elif kind == b"SMIGRATED":
            self._router.doubt()
        else:
            super()._pushed(push)

    def _take_back(self) -> None:
        self._numbering.give_up(self._left)
        self._left.clear()
        super()._take_back()
        self.subscribed.clear()
        self._unproven.clear()
        self._subscriptions.clear()


class _PrimaryGreeter(Greeter):
    """Subscribes to the channels that the calls about to be sent again name."""

    def __init__(
        self,
        say: Callable[[list[Greeting]], object],
        subscriptions: Callable[[], list[Greeting]],
        deaf: Callable[[Exception], object],
    ) -> None:
        super().__init__((), say)
        self._subscriptions = subscriptions
        self._deaf = deaf

    def greetings(self, resp3: bool) -> list[Greeting]:  # noqa: ARG002  # RESP3 always
        return [*super().greetings(resp3=False), *self._subscriptions()]

    def _on_left_out(self, word: str) -> None:  # noqa: ARG002  # no other is said
        self._deaf(ConnectionError(f"{MOST_CUT_OFF} connections in a row were closed behind it"))


def _ignore(_reply: Any) -> None:
    """Want no answer."""
