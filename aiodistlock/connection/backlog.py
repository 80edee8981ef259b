"""The calls that a pipe owes an answer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from aiodistlock.connection.greeting import Greeting
from aiodistlock.protocol.batch import Batch
from aiodistlock.protocol.redis_call import RedisCall


def _calls_in(sent: RedisCall[Any] | Batch | Greeting) -> Sequence[RedisCall[Any]]:
    """Return the calls that one reply will answer."""
    if isinstance(sent, Batch):
        return tuple(sent.calls)
    return () if isinstance(sent, Greeting) else (sent,)


class Backlog:
    """
    Calls on the wire, in the order of their replies, and calls yet to be sent.

    :ivar held: answered, but held back until the answer is acknowledged (``ack``)
    :ivar sent: on the wire; greetings go before the calls of their connection
    :ivar unsent: to be sent next
    """

    __slots__ = ("held", "sent", "unsent")

    def __init__(self) -> None:
        self.held: list[tuple[RedisCall[Any], Any]] = []
        self.sent: deque[RedisCall[Any] | Batch | Greeting] = deque()
        self.unsent: list[RedisCall[Any]] = []

    def on_the_wire(self) -> Iterator[RedisCall[Any]]:
        """Yield the calls on the wire, in order."""
        for each in self.sent:
            yield from _calls_in(each)

    def calls(self) -> list[RedisCall[Any]]:
        """Return all calls whose answer somebody wants, in order."""
        held = (call for call, _ in self.held)
        calls = (*held, *self.on_the_wire(), *self.unsent)
        return [call for call in calls if not call.obsolete]

    @property
    def unanswered(self) -> bool:
        """Whether any request is on the wire, be it one that was taken away meanwhile."""
        return any(not (isinstance(each, Greeting) and each.command) for each in self.sent)

    def slots(self) -> set[int]:
        """Return the hash slots of the calls on the wire, to a node of a cluster."""
        return {call.keys.slot for call in self.on_the_wire()}

    def take_back(self) -> None:
        """Put what is on a lost wire before what is unsent."""
        self.unsent = self.calls()
        self.held.clear()
        for each in self.sent:
            if isinstance(each, Batch):
                each.calls.clear()  # the rest of its answer, if that is being read, is dropped
        self.sent.clear()
        for call in self.unsent:
            call.resent = call.sent_at > 0

    def take(self, wanted: Callable[[RedisCall[Any]], bool]) -> list[RedisCall[Any]]:
        """Give calls away, in order; what is still answered to them is dropped."""
        taken: list[RedisCall[Any]] = []
        sent: deque[RedisCall[Any] | Batch | Greeting] = deque()
        for each in self.sent:
            calls = _calls_in(each)
            if calls and all(map(wanted, calls)):
                sent.append(Greeting((), lambda _reply: None))
                for call in calls:
                    call.resent = True
                taken += calls
            else:
                sent.append(each)
        self.sent = sent
        taken += [call for call in self.unsent if wanted(call)]
        self.unsent = [call for call in self.unsent if not wanted(call)]
        return [call for call in taken if not call.obsolete]

    @property
    def interrupted(self) -> bool:
        """Whether a lost connection has the first call on the wire wait for its answer."""
        first = next(self.on_the_wire(), None)
        return first is not None and first.resent

    def first_sent_at(self) -> float | None:
        """Return when the first call on the wire was sent, ``None`` if there is none."""
        first = self.held[0][0] if self.held else next(self.on_the_wire(), None)
        return None if first is None else first.sent_at

    def fail_all(self, error: Exception, *, transient: bool) -> None:
        """Answer all calls that no answer will come."""
        calls = self.calls()
        self.unsent.clear()
        for call in calls:
            call.fail(error, transient=transient)

    def fail_overdue(self, now: float, patience: float, error: Exception | None) -> None:
        """Answer those that waited for longer than ``patience``, or than they may."""
        for call in self.calls():
            waited = now - call.issued_at
            if waited > patience or now > call.until:
                call.fail(error or TimeoutError(f"no answer for {waited:.3g} s"))
        self.unsent = [call for call in self.unsent if not call.obsolete]
