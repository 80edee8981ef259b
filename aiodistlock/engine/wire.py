"""One connection to Redis, opened by redis-py and then read without its help.

redis-py's pool knows how to reach the server: TCP, TLS or unix socket, credentials,
ACL user, database, RESP version.  So its connection is made by the pool's own
factory and does the handshake.  Then this module takes the transport over, with a
protocol of its own that feeds hiredis as bytes arrive.  ``read_response`` and
``send_packed_command`` would do the same through a ``StreamReader``, a reader task
and four coroutines a reply.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any, cast

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from aiodistlock.core.clock import Clock
from aiodistlock.stores.wake import read_begins, read_ends

_INCOMPLETE = object()

TOGETHER = 24
"""So many tasks are woken, at most, before they run.

They send a batch then, and the server has work while we parse on.  And what a thousand replies
make and drop comes and goes in small tides: the garbage collector, which counts only what is
more than before, has a third less to do.
"""

# One command as bytes, in 0.6 us where redis-py's own packing takes 4.4.
pack = cast(Callable[[tuple[bytes | int, ...]], bytes], hiredis.pack_command)


class Wire(asyncio.Protocol):
    """
    A transport with its RESP parser.

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
        self._reader = hiredis.Reader(
            protocolError=ConnectionError,
            replyError=ResponseError,
            notEnoughData=_INCOMPLETE,
        )
        writer = connection._writer
        assert writer is not None, "redis-py's connection is open"
        self._transport = writer.transport
        self._transport.set_protocol(self)
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self.heard_at = clock()
        """Local instant at which anything arrived last."""
        # Of a URL, redis-py 6 and 7 keep it as text.
        self.resp3 = int(connection.protocol) == 3
        self.write: Callable[[bytes], object] = self._transport.write
        self._gone = asyncio.Event()

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
        self.heard_at = self._clock()
        loop = self._loop
        woken = read_begins(loop)
        try:
            self._reader.feed(data)
            while self._on_lost is not None:
                reply = self._reader.gets()
                if reply is _INCOMPLETE:
                    break
                if type(reply) is hiredis.PushNotification:
                    self._on_push(reply)
                else:
                    self._on_reply(reply)
                if len(woken) >= TOGETHER:
                    read_ends(loop, woken)
                    woken = read_begins(loop)
        except ConnectionError as error:
            self.abort(error)
        finally:
            read_ends(loop, woken)
            self.on_read()

    def connection_lost(self, exc: Exception | None) -> None:
        """Report the end, unless it was ours."""
        self._gone.set()
        self.abort(exc or ConnectionError("connection closed by the server"))

    def abort(self, error: Exception) -> None:
        """End the connection at once, and report why."""
        on_lost, self._on_lost = self._on_lost, None
        if on_lost is not None:
            self._transport.abort()
            self._forget()
            on_lost(error)

    def close(self) -> None:
        """End the connection after what was written; nothing is reported."""
        if self._on_lost is not None:
            self._on_lost = None
            self._transport.close()
            self._forget()

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
                self._transport.abort()

    def drop(self) -> None:
        """End the connection at once, whatever is still to be written; nothing is reported."""
        if self._on_lost is not None:
            self._on_lost = None
            self._transport.abort()
            self._forget()

    def _forget(self) -> None:
        # Or redis-py's connection warns that it was never closed.
        self._connection._reader = self._connection._writer = None
