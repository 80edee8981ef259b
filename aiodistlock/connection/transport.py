"""What carries the bytes of a connection that a client library opened.

The one place that reaches into redis-py's connection.  Where its transport is not to be
had (fakeredis, a connection class of somebody's own, a redis-py that keeps it elsewhere),
its public methods carry the same requests and replies, with two tasks and a queue between.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Protocol

from aiodistlock.connection.error_replies import as_error_reply, as_redis_py
from aiodistlock.core.background import start_task

_TAKEN = ("set_protocol", "write", "abort", "close")


class Reading(Protocol):
    """What a transport delivers to; see ``connection/wire.py``."""

    def replied(self, reply: Any) -> None:
        """Take in one reply that was parsed already."""
        ...

    def connection_lost(self, exc: Exception | None) -> None:
        """Take note of the end."""
        ...


class Transport(Protocol):
    """As much of a transport as a wire uses."""

    def set_protocol(self, protocol: Any) -> None:
        """Deliver to another protocol from now on."""
        ...

    def write(self, data: bytes) -> object:
        """Send, without waiting for it."""
        ...

    def abort(self) -> None:
        """End the connection at once."""
        ...

    def close(self) -> None:
        """End the connection after what was written."""
        ...


def transport_of(connection: Any) -> Transport | None:
    """Return the transport of an open connection, ``None`` if there is none to take over."""
    transport: Transport | None = getattr(getattr(connection, "_writer", None), "transport", None)
    return transport if all(hasattr(transport, name) for name in _TAKEN) else None


def take_over(connection: Any) -> Transport:
    """Return what carries the bytes from now on."""
    return transport_of(connection) or PlainTransport(connection)


def let_go(connection: Any) -> None:
    """Have a connection whose transport was taken over not warn that it was never closed."""
    if transport_of(connection) is not None:
        connection._reader = connection._writer = None


_USED = ("connect", "disconnect", "read_response", "send_packed_command", "protocol", "retry")


def check_usable(connection: object) -> None:
    """
    Check that a connection has what is used of redis-py's.

    :raises TypeError: naming its class, if it has not
    """
    missing = [name for name in _USED if not hasattr(connection, name)]
    if missing:
        kind = type(connection)
        raise TypeError(
            f"connections of class {kind.__module__}.{kind.__qualname__} cannot be used: they lack "
            f"redis-py's {', '.join(missing)}; LockClient.in_memory() needs no connection"
        )


class PlainTransport:
    """
    Carries bytes there and replies back, by a connection's public methods.

    It is slower, and how much it takes in is up to the library.

    :param connection: an open one
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._protocol: Reading | None = None
        self._unsent: list[bytes] = []
        self._closing = self._aborted = False
        self._writing: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[None] | None = None

    def set_protocol(self, protocol: Reading) -> None:
        """Deliver from now on."""
        self._protocol = protocol
        self._reading = start_task(self._read(protocol), "aiodistlock plain reader")

    def write(self, data: bytes) -> None:
        """Send, without waiting for it."""
        self._unsent.append(data)
        if self._writing is None and not self._aborted:
            self._writing = start_task(self._write(), "aiodistlock plain writer")

    def abort(self) -> None:
        """End the connection at once."""
        self._aborted = True
        for task in (self._writing, self._reading):
            if task is not None:
                task.cancel()

    def close(self) -> None:
        """End the connection after what was written."""
        self._closing = True
        if self._writing is None:
            self.abort()

    async def _write(self) -> None:
        try:
            while self._unsent and not self._aborted:
                data, self._unsent = b"".join(self._unsent), []
                # Closed, it would connect anew by itself, and nobody would greet the server.
                if getattr(self._connection, "is_connected", True):
                    await self._connection.send_packed_command(data, check_health=False)
        except Exception as error:  # noqa: BLE001  # of whatever connection class
            if self._protocol is not None:
                self._protocol.connection_lost(as_redis_py(error))
        finally:
            self._writing = None
            if self._closing:
                self.abort()

    async def _read(self, protocol: Reading) -> None:
        ended: Exception | None = None
        spared = False
        try:
            while True:
                try:
                    reply = await self._reply()
                except asyncio.CancelledError:
                    if self._aborted or spared:
                        raise
                    # By the end of ``asyncio.run``, say, along with tasks that have their
                    # clean-up to send yet: who uses the connection ends it.
                    spared = True
                    continue
                if reply is not None:
                    protocol.replied(reply)
        except Exception as error:  # noqa: BLE001  # of whatever connection class
            ended = as_redis_py(error)
        finally:
            if not self._loop.is_closed():  # with this task in it
                with contextlib.suppress(Exception):
                    await self._connection.disconnect(nowait=True)
                protocol.connection_lost(ended)

    async def _reply(self) -> Any:
        try:
            return await self._connection.read_response(
                disable_decoding=True, disconnect_on_error=False, push_request=True
            )
        except Exception as error:
            said = as_error_reply(error)
            if said is None:
                raise
            return said
