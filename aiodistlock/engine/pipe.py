"""The multiplexed connection to one Redis.

Rules
-----
1. Calls go out in the order of their submission, those of one loop turn together, in
   writes of at most ``BATCH`` so that the server works while we still pack.
2. Replies come in that order.  Each carries the tag of its request; one that does
   not match, or that nobody asked for, closes the connection.
3. A connection that breaks fails nobody: what is unanswered is sent again, in order,
   over the next one, because every script may run twice.  Before that the server is
   told to kill the former connection, so that nothing still on its way there can run
   after what follows it.
4. A connection that owes an answer for too long counts as broken, and a call that has
   none for ``unavailable_after`` fails: see ``engine/silence.py``.
5. Behind sentinels, a connection to a server that has become a replica is broken, too.

A reply settles its call at once, from ``data_received``: no task switch between.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from random import Random
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from aiodistlock.core.clock import Clock, ServerClock
from aiodistlock.engine.backlog import Backlog
from aiodistlock.engine.greeting import Greeter, Greeting
from aiodistlock.engine.inbox import Inbox
from aiodistlock.engine.keeper import Keeper
from aiodistlock.engine.opening import Connector, lasts
from aiodistlock.engine.silence import Silence
from aiodistlock.engine.wire import Wire, pack
from aiodistlock.stores.redis_call import RedisCall, error_code

logger = logging.getLogger("aiodistlock")

BATCH = 24
"""Most requests to one write; 8 to 32 measure alike, one write for 1,024 does not."""

# All of ten digits, so that their length need not be counted; a batch stays below 2**31.
_FIRST_TAG, _LAST_TAG = 1_000_000_000, 2_000_000_000


class Pipe:
    """
    One connection, shared by everything that a ``LockClient`` sends to one Redis.

    :param pool: the pool whose factory makes the connection
    :param inbox: gets what pub/sub pushes; under RESP3 heard on this same connection
    :param on_listening: told each time that grants can be heard (again)
    :param on_connected: told after each connect
    :param wanted: whether a connection is wanted though nothing waits to be sent
    :param clock: for ``sent_at``
    :param unavailable_after: seconds without an answer after which a call fails
    """

    def __init__(
        self,
        pool: Connector,
        inbox: Inbox,
        *,
        on_connected: Callable[[], object],
        on_listening: Callable[[], object],
        wanted: Callable[[], bool],
        clock: Clock,
        rng: Random,
        unavailable_after: float,
    ) -> None:
        self._inbox = inbox
        self._on_listening = on_listening
        self._on_connected = on_connected
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._wire: Wire | None = None
        self._keeper = Keeper(
            pool,
            "aiodistlock pipe",
            rng,
            wanted=lambda: bool(self._backlog.calls()) or wanted(),
            opened=self._take_over,
            failed=self._connect_failed,
            ended=self._close,
        )
        self._backlog = Backlog()
        self._silence = Silence(
            self._backlog,
            clock,
            unavailable_after=unavailable_after,
            replaceable=self._keeper.asks_sentinels,
        )
        self._look_later = self._silence.look_later
        self._flush_soon_planned = False
        self._tag = _FIRST_TAG
        self._greeter = Greeter(inbox.channel, self._say)

    def submit(self, call: RedisCall[Any]) -> None:
        """Send a call with the others of this loop turn."""
        unsent = self._backlog.unsent
        if self._wire is None and self._keeper.stopped:
            call.issued_at = self._clock()
            call.fail(ConnectionError("the LockClient was closed, or its tasks cancelled"))
            return
        unsent.append(call)
        if self._wire is None:
            call.issued_at = min(call.issued_at, self._clock())
            self._look_later()
            self._keeper.start()
        elif len(unsent) >= BATCH:
            self._flush()
        elif not self._flush_soon_planned:
            self._flush_soon_planned = True
            self._loop.call_soon(self._flush_turn)

    def _flush_turn(self) -> None:
        self._flush_soon_planned = False
        self._flush()

    def _flush(self) -> None:
        wire, backlog = self._wire, self._backlog
        if wire is None or not backlog.unsent:
            return
        unsent, backlog.unsent = backlog.unsent, []
        sent = backlog.sent
        self._look_later()
        now = self._clock()
        packed = []
        tag = self._tag if self._tag < _LAST_TAG else _FIRST_TAG
        for call in unsent:
            if call.obsolete:
                continue
            call.sent_at = now
            if call.issued_at > now:  # noqa: PLR1730  # min() takes three times as long
                call.issued_at = now
            tag += 1
            call.tag = tag
            sent.append(call)
            packed.append(call.packed())
            if len(packed) == BATCH:
                wire.write(b"".join(packed))
                packed.clear()
        self._tag = tag
        if packed:
            wire.write(b"".join(packed))

    def _resend_with_source(self, call: RedisCall[Any]) -> None:
        """
        Send a call as EVAL: the server does not know its script (any more).

        Behind it goes again all that was asked after it: an abandon must not come behind the
        next try, a renewal behind a later one, nor a vote behind what takes it back.  (Of any
        key: to look for those of this one would take seconds where thousands meet a server
        that forgot the script.)
        """
        if call.obsolete or self._wire is None:
            return
        self._backlog.unsent = self._backlog.take(lambda _: True)  # sent when all is read
        call.sent_at = self._clock()
        self._tag = call.tag = self._tag + 1
        self._backlog.sent.append(call)
        self._wire.write(call.packed_with_source())

    def server_clock(self, call: RedisCall[Any]) -> ServerClock:  # noqa: ARG002  # one server
        """Return the clock of the server at the other end."""
        return self._inbox.server_clock

    def _received(self, reply: Any) -> None:
        sent = self._backlog.sent
        if not sent:
            raise ConnectionError("the server sent a reply that nobody asked for")
        call = sent.popleft()
        if isinstance(call, Greeting):
            call.on_reply(reply)
        elif type(reply) is list and len(reply) > 1 and reply[1] == call.tag:
            call.finish(call.decode(reply, call.sent_at))
        elif isinstance(reply, ResponseError):
            self._refused(call, reply)
        else:
            sent.appendleft(call)
            raise ConnectionError("the server's replies do not match our requests")

    def _refused(self, call: RedisCall[Any], error: ResponseError) -> None:
        if str(error).startswith("NOSCRIPT"):
            self._resend_with_source(call)
        elif self._keeper.asks_sentinels and error_code(error) == "READONLY":
            self._backlog.sent.appendleft(call)
            raise ConnectionError("this server has become a replica")
        else:
            call.refuse(error)

    def _pushed(self, push: list[Any]) -> None:
        if push[0] == b"subscribe":
            # Its confirmation stands where the reply to SUBSCRIBE would.
            self._backlog.sent.popleft()
            self._inbox.heard_on_pipe = True
            self._on_listening()
        else:
            self._inbox.deliver(push)

    def _connect_failed(self, error: Exception, failures: int) -> None:
        self._note(error, failures)
        if lasts(error):
            self._backlog.fail_all(error, transient=False)

    def _close(self) -> None:
        if self._wire is not None:
            self._flush()
            self._wire.close()
            self._take_back()

    def _take_over(self, connection: AbstractConnection) -> Wire:
        """Greet the server, then send again whatever is unanswered."""
        wire = Wire(connection, self._received, self._pushed, self._ended, self._clock)
        wire.on_read = self._flush
        self._wire = self._silence.wire = wire
        self._silence.last_error = None
        self._inbox.connected(on_pipe=wire.resp3)
        self._say(self._greeter.greetings(wire.resp3))
        self._flush()
        self._on_connected()
        return wire

    def _say(self, greetings: list[Greeting]) -> None:
        if self._wire is not None:
            self._backlog.sent.extend(greetings)
            self._wire.write(b"".join(pack(each.command) for each in greetings))

    def _ended(self, error: Exception) -> None:
        """Take back what is unanswered; the keeper connects again if that is needed."""
        self._note(error, 0)
        self._take_back()
        self._keeper.lost()

    def _take_back(self) -> None:
        if self._keeper.asks_sentinels:
            self._inbox.leave()
        self._wire = self._silence.wire = None
        self._inbox.heard_on_pipe = False
        self._backlog.take_back()

    def _note(self, error: Exception, failures: int) -> None:
        known, self._silence.last_error = failures or self._silence.last_error, error
        level = logging.DEBUG if known else logging.WARNING
        logger.log(level, "no connection to Redis: %s: %s", type(error).__name__, error)

    def suspect(self, call: RedisCall[Any]) -> None:
        """Break the connection if it has been silent since ``call`` was sent."""
        self._silence.suspect(call)

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
        self._close()
        self._keeper.stop()
        self._backlog.fail_all(ConnectionError("the LockClient was closed"), transient=True)

    @property
    def stopped(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._keeper.stopped

    def disown(self) -> None:
        """Send nothing any more: after a fork the socket is the parent's, too."""
        self._keeper.stopped = True
        self._wire = self._silence.wire = None
        self._backlog = Backlog()
