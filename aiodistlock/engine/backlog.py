"""The calls that a pipe owes an answer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from aiodistlock.engine.greeting import Greeting
from aiodistlock.stores.redis_call import RedisCall


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
        self.sent: deque[RedisCall[Any] | Greeting] = deque()
        self.unsent: list[RedisCall[Any]] = []

    def calls(self) -> list[RedisCall[Any]]:
        """Return all calls whose answer somebody wants, in order."""
        held = (call for call, _ in self.held)
        return [
            call
            for call in (*held, *self.sent, *self.unsent)
            if isinstance(call, RedisCall) and not call.obsolete
        ]

    def take_back(self) -> None:
        """Put what is on a lost wire before what is unsent."""
        self.unsent = self.calls()
        self.held.clear()
        self.sent.clear()
        for call in self.unsent:
            call.resent = call.sent_at > 0

    def take(self, wanted: Callable[[RedisCall[Any]], bool]) -> list[RedisCall[Any]]:
        """Give calls away, in order; what is still answered to them is dropped."""
        taken: list[RedisCall[Any]] = []
        sent: deque[RedisCall[Any] | Greeting] = deque()
        for each in self.sent:
            if isinstance(each, RedisCall) and wanted(each):
                sent.append(Greeting((), lambda _reply: None))
                each.resent = True
                taken.append(each)
            else:
                sent.append(each)
        self.sent = sent
        taken += [call for call in self.unsent if wanted(call)]
        self.unsent = [call for call in self.unsent if not wanted(call)]
        return [call for call in taken if not call.obsolete]

    def first_sent_at(self) -> float | None:
        """Return when the first call on the wire was sent, ``None`` if there is none."""
        if self.held:
            return self.held[0][0].sent_at
        for call in self.sent:
            if isinstance(call, RedisCall):
                return call.sent_at
        return None

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
