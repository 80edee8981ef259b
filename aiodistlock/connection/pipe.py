"""The multiplexed connection to one Redis.

Rules
-----
1. Calls go out in the order of their submission, those of one loop turn together: the first
   ``MOST_TOGETHER`` at once if little is on its way, so that the server works while we still
   pack.  So many are one call of one script (``protocol/batch.py``), but for a name that comes
   twice in it.  What is sent again, or refused as a whole, is divided anew.
2. Replies come in that order.  Each carries the tag of its request; one that does
   not match, or that nobody asked for, closes the connection.
3. A connection that breaks fails nobody: what is unanswered is sent again, because scripts
   may run twice (``connection/resending.py``).
4. A connection that owes an answer for too long counts as broken, and a call that has
   none for ``unavailable_after`` fails: see ``connection/silence.py``.
5. So does one to a server that turns us away: see ``connection/turned_away.py``.

A reply settles its call at once, from ``data_received``: no task switch between.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Sequence
from itertools import islice
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from aiodistlock.connection.backlog import Backlog
from aiodistlock.connection.greeting import Greeter, Greeting
from aiodistlock.connection.inbox import Inbox
from aiodistlock.connection.keeper import Keeper
from aiodistlock.connection.numbering import Numbering
from aiodistlock.connection.opening import Fault, Opener, lasts
from aiodistlock.connection.resending import Resender
from aiodistlock.connection.silence import Silence
from aiodistlock.connection.turned_away import Gate
from aiodistlock.connection.wire import Unreadable, Wire, pack
from aiodistlock.core.clock import ServerClock
from aiodistlock.core.keys import LockKeys
from aiodistlock.protocol.batch import Batch, divided, read_usual
from aiodistlock.protocol.call import Call
from aiodistlock.protocol.owner import PipeOwner
from aiodistlock.protocol.redis_call import RedisCall
from aiodistlock.protocol.refusals import is_to_be_sent_again
from aiodistlock.protocol.scripts import MOST_TOGETHER

LEAST = 4
"""Fewest requests to go as one call: what it takes to tell them apart costs as much as two."""

KEPT_BACK = 24
"""Requests kept back, for the end of the turn, for each write that is unanswered.

The server has work, and to write a few at a time wakes it again and again: with 1,024 tasks, and
none kept back, that took a tenth of the client's time.
"""


class Pipe(Resender):
    """
    One connection, shared by everything that a ``LockClient`` sends to one Redis.

    :param opener: opens the connections
    :param inbox: gets what pub/sub pushes; under RESP3 heard on this same connection
    :param owner: told after each connect; asked whether a connection is wanted though
        nothing waits to be sent
    :param numbering: of the requests, where other pipes share it
    """

    def __init__(
        self,
        opener: Opener,
        inbox: Inbox,
        owner: PipeOwner,
        numbering: Numbering | None = None,
    ) -> None:
        self._opener = opener
        self._inbox = inbox
        self._owner = owner
        self._clock = clock = owner.clock
        patience = owner.options.unavailable_after
        self._loop = asyncio.get_running_loop()
        self._wire: Wire | None = None
        self._heard_at = -math.inf
        self._keeper = Keeper(opener, "aiodistlock pipe", owner.rng, self, patience=patience)
        self._backlog = Backlog()
        self._silence = Silence(
            self._backlog,
            clock,
            unavailable_after=patience,
            replaceable=opener.look_every is not None,
        )
        self._look_later, self.suspect = self._silence.look_later, self._silence.suspect
        self.listen = inbox.listen
        self._flush_soon_planned = False
        self._apart = self._unknown = False
        self._numbering = numbering or Numbering()
        self._void = self._numbering.void
        self._greeter = Greeter(inbox.channels, self._say)
        self._gate = Gate(clock)

    def submit(self, call: RedisCall[Any]) -> None:
        """Send a call with the others of this loop turn."""
        wire, unsent = self._wire, self._backlog.unsent
        if wire is None:
            self._submit_offline(call)
            return
        unsent.append(call)
        count = len(unsent)
        if count >= MOST_TOGETHER and count > KEPT_BACK * len(self._backlog.sent):
            self._flush()
        elif not (wire.reading or self._flush_soon_planned):
            self._flush_soon_planned = True
            self._loop.call_soon(self._flush_turn)

    def _submit_offline(self, call: RedisCall[Any]) -> None:
        now = self._clock()
        if self._keeper.stopped:
            call.issued_at = now
            call.fail(ConnectionError("the LockClient was closed, or its tasks cancelled"))
            return
        self._backlog.unsent.append(call)
        call.issued_at = min(call.issued_at, now)
        self._look_later()
        self._keeper.start()

    def _flush_turn(self) -> None:
        self._flush_soon_planned = False
        self._flush()

    def _flush(self) -> None:
        wire, backlog = self._wire, self._backlog
        if wire is None or not backlog.unsent:
            return
        unsent, backlog.unsent = backlog.unsent, []
        self._look_later()
        now = self._clock()
        numbering = self._numbering
        number = numbering.last
        calls = []
        for call in unsent:
            if call.obsolete:
                continue
            call.sent_at = now
            if call.issued_at > now:  # noqa: PLR1730  # min() takes three times as long
                call.issued_at = now
            call.tag = number = number + 1
            calls.append(call)
        numbering.last = number
        if len(calls) < LEAST:
            wire.write(self._packed_apart(calls))
        else:
            for start in range(0, len(calls), MOST_TOGETHER):
                wire.write(self._packed(calls[start : start + MOST_TOGETHER]))
        self._apart = False

    def _packed(self, calls: list[RedisCall[Any]]) -> bytes:
        """Pack calls for one write, which have their numbers."""
        if self._apart or not self._numbering.marker:
            return self._packed_apart(calls)
        return b"".join([self._packed_together(some) for some in divided(calls)])

    def _packed_apart(self, calls: list[RedisCall[Any]]) -> bytes:
        numbering = self._numbering
        marker = b"" if self._void else numbering.marker
        append, packed = self._backlog.sent.append, b""
        for call in calls:
            append(call)
            packed += call.packed(marker) if marker else numbering.packed(call)
        return packed

    def _packed_together(self, calls: list[RedisCall[Any]]) -> bytes:
        if len(calls) < LEAST:
            return self._packed_apart(calls)
        batch = Batch(calls, sourced=self._unknown)
        self._unknown = False
        self._backlog.sent.append(batch)
        return self._numbering.packed(batch, source=batch.sourced)

    def line(self, keys: LockKeys) -> Wire | None:  # noqa: ARG002  # one for all
        """Return the connection, if grants and recalls are heard."""
        return self._wire if self._inbox.heard else None

    def hear_leaders(self, keys: LockKeys) -> bool:
        """See to it that announcements of leaders are heard; tell whether they are now."""
        channel, wire = keys.proclamation, self._wire
        if self._inbox.hear(channel) and wire is not None and wire.resp3:
            self._say([self._greeter.subscription(channel)])
        return self._inbox.announces(channel)

    def server_clock(self, call: Call[Any]) -> ServerClock:  # noqa: ARG002  # one server
        """Return the clock of the server at the other end."""
        return self._inbox.server_clock

    def _received(self, reply: Any) -> None:
        sent = self._backlog.sent
        if not sent:
            raise Unreadable("nobody asked for it", reply)
        call = sent[0]
        if isinstance(call, Greeting):
            sent.popleft()
            call.on_reply(reply)
        elif type(reply) is list and len(reply) > 1 and reply[1] == call.tag:
            if isinstance(call, Batch):
                self._answered_together(call, reply)
                return
            answer = call.decode(reply, call.sent_at)  # if it cannot be read, the call stays
            sent.popleft()
            if self._void:
                self._numbering.heard(call)
            self._settle(call, answer)
        elif isinstance(reply, ResponseError):
            self._gate.check(reply)  # if we are turned away, the call stays
            self._numbering.refused(reply)
            if isinstance(call, Batch):
                self._refused_together(call, reply)
                return
            sent.popleft()
            self._refused(call, reply)
        else:
            raise Unreadable("it does not match our request", reply)

    def _settle(self, call: RedisCall[Any], answer: Any) -> None:
        """Deliver an answer, of a call that is on the wire no more."""
        call.finish(answer)

    def _answered_together(self, batch: Batch, reply: list[Any]) -> None:
        calls, settle = batch.calls, self._settle
        if len(reply) != 3 + len(calls):
            raise Unreadable("it answers more or less than was asked", reply)
        self._numbering.heard(batch)
        server_us = reply[2]
        again: list[RedisCall[Any]] = []
        try:
            for each in islice(reply, 3, None):
                if not calls:
                    break  # the connection was given up meanwhile: they were taken back
                call = calls[0]  # if it cannot be read, or we are turned away, it stays
                if type(each) is int:
                    answer = read_usual(each, server_us, call)
                elif type(each) is list and len(each) > 1 and each[1] == call.tag:
                    answer = call.decode(each, call.sent_at)
                elif isinstance(each, ResponseError):
                    self._gate.check(each)
                    calls.popleft()
                    if is_to_be_sent_again(each):
                        again.append(call)
                    else:
                        call.refuse(each)
                    continue
                else:
                    raise Unreadable("it does not match our request", reply)
                calls.popleft()
                settle(call, answer)
        finally:
            calls.extend(again)
        sent = self._backlog.sent
        if sent and sent[0] is batch:
            sent.popleft()
        if again:
            self._send_again(again)

    def _was_let_in(self) -> bool:
        return self._gate.was_passed

    def _pushed(self, push: list[Any]) -> None:
        if push[0] == b"subscribe":
            self._confirmed(b"SUBSCRIBE", push)
            if push[1] == self._inbox.channel:
                self._inbox.heard_from_pipe()
            else:
                self._inbox.confirmed(push[1])
        elif push[0] == b"message":
            self._inbox.deliver(push)
        else:
            self._keeper.hear(push)

    def _confirmed(self, command: bytes, push: list[Any]) -> None:
        """Take in a confirmation: it stands where the reply to the command would."""
        head = next(iter(self._backlog.sent), None)
        if not isinstance(head, Greeting) or head.command != (command, push[1]):
            raise Unreadable("nobody asked for it", push)
        self._backlog.sent.popleft()

    def wanted(self) -> bool:
        """Tell whether a connection is needed."""
        return bool(self._backlog.calls()) or self._owner.busy()

    def not_opened(self, error: Exception) -> None:
        """Fail what is unanswered, if connecting again will not help."""
        self._silence.note(error, self._opener.place, missed=True)
        if isinstance(error, Fault) or (lasts(error) and not self._was_let_in()):
            self._backlog.fail_all(error, transient=False)

    def cancelled(self) -> None:
        """Nothing can be sent any more, which is seen by :attr:`stopped`."""

    def close(self) -> None:
        """Close the connection, once what was submitted is sent."""
        if self._wire is not None:
            self._flush()
            self._wire.close()
            self._take_back()

    def opened(self, connection: AbstractConnection) -> Wire:
        """Greet the server, then send again whatever is unanswered."""
        wire = Wire(connection, self._received, self._pushed, self._ended, self._clock)
        wire.on_read = self._flush
        self._wire = self._silence.wire = wire
        self._gate.passed(provider=getattr(connection, "credential_provider", None) is not None)
        self._inbox.connected(on_pipe=wire.resp3)
        self._say(self._greeter.greetings(wire.resp3))
        self._flush()
        self._connected()
        return wire

    def _connected(self) -> None:
        self._owner.on_connected()

    def _say(self, greetings: list[Greeting]) -> None:
        if self._wire is not None:
            self._backlog.sent.extend(greetings)
            self._wire.write(b"".join(pack(each.command) for each in greetings))

    def _ended(self, error: Exception) -> None:
        """Take back what is unanswered; the keeper connects again if that is needed."""
        self._silence.note(error, self._opener.place, missed=bool(self._backlog.calls()))
        self._greeter.ended(self._backlog.sent)
        self._take_back()
        self._keeper.lost()

    def excuses(self, call: Call[Any]) -> Sequence[Exception]:
        """Return why a call has no answer yet, as far as that is known."""
        error = self._silence.last_error
        return (error,) if error is not None and (self._wire is None or call.resent) else ()

    async def aclose(self, within: float = 1.0) -> None:
        """Send what was submitted, wait ``within`` seconds for answers, and close."""
        if calls := self._backlog.calls():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within):
                    await calls[-1]  # answers come in order
        self.stop()
        await self._keeper.join()
        await self._inbox.join()

    def stop(self) -> None:
        """Close at once, without waiting for answers; who still does is told."""
        self._inbox.stop()
        self._silence.stop()
        self.close()
        self._keeper.stop()
        self._backlog.fail_all(ConnectionError("the LockClient was closed"), transient=True)

    @property
    def online(self) -> bool:
        """Whether the connection is open."""
        return self._wire is not None

    @property
    def heard_at(self) -> float:
        """Local instant at which anything came last, -inf if nothing did."""
        wire = self._wire
        return self._heard_at if wire is None else wire.heard_at

    @property
    def stopped(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._keeper.stopped

    def disown(self) -> None:
        """Send nothing any more: after a fork the socket is the parent's, too."""
        self._keeper.stopped = True
        self._wire = self._silence.wire = None
        self._backlog = Backlog()
