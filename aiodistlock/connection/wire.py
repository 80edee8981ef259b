"""One connection to Redis, opened by redis-py and then read without its help.

redis-py's pool knows how to reach the server: TCP, TLS or unix socket, credentials,
ACL user, database, RESP version.  So its connection is made by the pool's own
factory and does the handshake.  Then this module takes the transport over, with a
protocol of its own that feeds hiredis as bytes arrive.  ``read_response`` and
``send_packed_command`` would do the same through a ``StreamReader``, a reader task
and four coroutines a reply; where there is no transport to take over, they do.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any, cast

import hiredis
from hiredis import PushNotification
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from aiodistlock.connection.oversized_arrays import Heads, find_long
from aiodistlock.connection.transport import PlainTransport, let_go, take_over
from aiodistlock.core.background import abort
from aiodistlock.core.clock import Clock
from aiodistlock.core.escaping import MOST_OF_ERROR, outlined, shown
from aiodistlock.protocol.wake import read_begins, read_ends

_INCOMPLETE = object()

NEWLINE = 10

TOGETHER = 24
"""So many tasks are woken, at most, before they run.

They send a batch then, and the server has work while we parse on.  And what a thousand replies
make and drop comes and goes in small tides: the garbage collector, which counts only what is
more than before, has a third less to do.
"""

MOST_UNREAD = 16 * 2**20
"""Most bytes of one reply.  The greatest that is meant, of a name with 100,000 waiters or of a
cluster whose slots all lie apart, has 10 MB; what is longer is not taken in."""

# What tells a push from a reply where another parser has made both lists.
_PUSHED = (b"message", b"smessage", b"subscribe", b"ssubscribe", b"sunsubscribe")

# One command as bytes, in 0.6 us where redis-py's own packing takes 4.4.
pack = cast(Callable[[tuple[bytes | int, ...]], bytes], hiredis.pack_command)


class Unreadable(ConnectionError):
    """
    The server sent what no Redis sends: the connection ends, what is unanswered is asked again.

    :param what: that came
    """

    def __init__(self, why: object, what: object) -> None:
        super().__init__(f"the server sent what cannot be read ({why}): {outlined(what)}")


def unreadable(error: Exception, what: object) -> Unreadable:
    """Return what ends a connection on which reading ``what`` failed by ``error``."""
    result = Unreadable(f"{type(error).__name__}: {error}", what)
    result.__cause__ = error
    return result


class Wire(asyncio.Protocol):
    """
    A transport with its RESP parser.

    Whatever is wrong with a reply ends the connection, and never raises from here: asyncio
    would log it, and whoever waits for an answer would wait for ever.

    :param on_reply: gets each reply, an error reply as a ``ResponseError``
    :param on_push: gets each RESP3 push message
    :param on_lost: told once that the connection ended, with the reason
    :ivar on_read: told when all that arrived together has been delivered, and the tasks
        that it woke have run
    """

    def __init__(
        self,
        connection: AbstractConnection,
        on_reply: Callable[[Any], object],
        on_push: Callable[[list[Any]], object],
        on_lost: Callable[[Exception], object],
        clock: Clock,
    ) -> None:
        # Kept for the StreamWriter in it, which would close the transport when
        # collected (Python 3.12 and later).
        self._connection = connection
        self._on_reply = on_reply
        self._on_push = on_push
        self._on_lost: Callable[[Exception], object] | None = on_lost
        self.on_read: Callable[[], object] = lambda: None
        reader = hiredis.Reader(
            protocolError=ConnectionError,
            replyError=_refusal,
            notEnoughData=_INCOMPLETE,
        )
        self._feed, self._gets = reader.feed, reader.gets
        self._heads = Heads(reader.has_data)
        self._transport = take_over(connection)
        self._transport.set_protocol(self)
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self.heard_at = clock()
        """Local instant at which anything arrived last."""
        self.reading = False
        """Whether what arrived is being delivered: ``on_read`` will be told."""
        # Of a URL, redis-py 6 and 7 keep it as text.  What is carried plainly is not heard
        # between replies: fakeredis answers nothing where something is subscribed to.
        plain = isinstance(self._transport, PlainTransport)
        self.resp3 = not plain and int(connection.protocol) == 3
        self.write: Callable[[bytes], object] = self._transport.write
        self._gone = asyncio.Event()
        self._unread = 0

    @contextlib.contextmanager
    def one_write(self) -> Iterator[None]:
        """Send what is written meanwhile in one piece."""
        parts: list[bytes] = []
        self.write = parts.append
        try:
            yield
        finally:
            self.write = self._transport.write
            if parts:
                self.write(b"".join(parts))

    def data_received(self, data: bytes) -> None:
        """Parse what arrived, and deliver each whole reply."""
        self.reading = True
        self.heard_at = self._clock()
        loop = self._loop
        woken = read_begins(loop)
        unread = self._unread + len(data)
        reply: Any = None
        heads, gets = self._heads, self._gets
        usual = not heads.begun and data[-1] == NEWLINE and data[2:3] == b"\r"
        try:
            for piece in (data,) if usual and not find_long(data) else heads.pieces(data):
                self._feed(piece)
                while self._on_lost is not None:
                    reply = gets()
                    if reply is _INCOMPLETE:
                        break
                    if type(reply) is PushNotification:
                        self._on_push(reply)
                    else:
                        self._on_reply(reply)
                    unread = 0
                    if len(woken) >= TOGETHER:
                        read_ends(loop, woken)
                        woken = read_begins(loop)
            self._unread = unread
            if unread > MOST_UNREAD:
                self.abort(Unreadable(f"over {MOST_UNREAD:,} bytes without an end", data))
        except ConnectionError as error:
            self.abort(error)
        except Exception as error:  # noqa: BLE001  # a reply of whatever shape, or a fault of ours
            self.abort(unreadable(error, reply))
        finally:
            read_ends(loop, woken)
            self.reading = False
            self.on_read()

    def replied(self, reply: Any) -> None:
        """Deliver one reply that a plain transport had parsed for it."""
        self.heard_at = self._clock()
        try:
            if isinstance(reply, list) and reply and reply[0] in _PUSHED:
                self._on_push(reply)
            elif self._on_lost is not None:
                self._on_reply(reply)
        except ConnectionError as error:
            self.abort(error)
        except Exception as error:  # noqa: BLE001  # as where we parse ourselves
            self.abort(unreadable(error, reply))
        finally:
            self.on_read()

    def connection_lost(self, exc: Exception | None) -> None:
        """Report the end, unless it was ours."""
        self._gone.set()
        self.abort(exc or ConnectionError("connection closed by the server"))

    def abort(self, error: Exception) -> None:
        """End the connection at once, and report why."""
        on_lost, self._on_lost = self._on_lost, None
        if on_lost is not None:
            abort(self._transport, self._loop)
            let_go(self._connection)
            on_lost(error)

    def close(self) -> None:
        """End the connection after what was written; nothing is reported."""
        if self._on_lost is not None:
            self._on_lost = None
            self._transport.close()
            let_go(self._connection)

    async def gone(self, within: float) -> None:
        """
        Wait until a closed connection is gone; ``within`` seconds, then it is cut.

        Under TLS the server's goodbye is waited for, and one that is frozen says none.
        """
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within):
                    await self._gone.wait()
        finally:
            if not self._gone.is_set():
                abort(self._transport, self._loop)

    def drop(self) -> None:
        """End the connection at once, whatever is still to be written; nothing is reported."""
        if self._on_lost is not None:
            self._on_lost = None
            abort(self._transport, self._loop)
            let_go(self._connection)


def _refusal(message: str) -> ResponseError:
    """Build the error that a server answered, as it may be logged and raised."""
    return ResponseError(shown(message, MOST_OF_ERROR))
