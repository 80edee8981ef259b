"""Where grants arrive: one pub/sub channel per client, shared by all its waiters.

Under RESP3 the channel is heard on the pipe itself, so a grant cannot overtake the
reply to the request that queued for it.  Under RESP2 a subscribed connection can do
nothing else, so the inbox opens a second one, before the client's first wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from aiodistlock.core.clock import Clock, ServerClock
from aiodistlock.core.keys import LockKeys
from aiodistlock.engine.greeting import SUBSCRIBE_AGAIN
from aiodistlock.engine.keeper import Keeper
from aiodistlock.engine.opening import Connector
from aiodistlock.engine.wire import Wire, pack
from aiodistlock.stores.redis_call import is_transient

logger = logging.getLogger("aiodistlock")


class Grant(NamedTuple):
    """The message that makes a waiter the holder; ``prelude.lua`` writes it."""

    fence: int
    server_us: int
    ttl: float
    token: bytes
    key: bytes


def read_grant(payload: bytes) -> Grant | None:
    """Parse a message; ``None`` if it is no grant (anybody may publish)."""
    try:
        fence, server_us, ttl_ms, token, key = payload.split(b" ", 4)
        return Grant(int(fence), int(server_us), int(ttl_ms) / 1000, token, key)
    except ValueError:
        logger.warning("message in the inbox that is no grant: %.100r", payload)
        return None


class Inbox:
    """
    The one channel of a client, and the second connection that RESP2 needs to hear it.

    That is opened by :meth:`listen`, and kept until closed.

    :param on_listening: told each time the channel is heard (again)
    :param on_grant: gets each grant, and the clock of the server that sent it
    """

    def __init__(
        self,
        pool: Connector,
        channel: bytes,
        *,
        on_grant: Callable[[Grant, ServerClock], object],
        on_listening: Callable[[], object],
        clock: Clock,
        rng: Random,
    ) -> None:
        self.channel = channel
        self._on_grant = on_grant
        self._on_listening = on_listening
        self._clock = clock
        self._wire: Wire | None = None
        self._refused = False
        self._keeper = Keeper(
            pool,
            "aiodistlock inbox",
            rng,
            wanted=lambda: not self._refused,
            opened=self._subscribe,
            failed=lambda error, _: logger.debug("inbox not connected: %s", error),
            ended=self._close,
            lingers=False,
        )
        self.listening = False
        """Whether the server confirmed the subscription of the second connection."""
        self.heard_on_pipe = False
        """Whether it confirmed that of the pipe."""
        self._on_pipe: bool | None = None
        self.server_clock = ServerClock()
        """Of the server at the other end."""

    def connected(self, *, on_pipe: bool) -> None:
        """
        Take in that the pipe is connected (again).

        :param on_pipe: whether the channel can be heard there
        """
        self._on_pipe = on_pipe
        # It may be another server than before, and a grant of the new one must not be
        # mapped by what the old one's clock showed.
        self.server_clock = ServerClock()

    def channel_of(self, keys: LockKeys) -> bytes:  # noqa: ARG002  # one for all
        """Return the one channel on which all grants are published."""
        return self.channel

    channel_to_queue = channel_of

    def open_channel(self, keys: LockKeys) -> bytes:  # noqa: ARG002  # one for all
        """Return that channel if it is heard, else ``b""``."""
        return self.channel if self.heard else b""

    @property
    def heard(self) -> bool:
        """Whether the channel is heard now."""
        return self.heard_on_pipe or self.listening

    def listen(self, keys: LockKeys) -> bool:  # noqa: ARG002  # one channel for all
        """See to it that grants are heard soon; tell whether they are now."""
        self.open()
        return self.heard

    def open(self) -> None:
        """See to it that the channel is heard soon; RESP3 subscribes as it connects."""
        if self._on_pipe is False and not self._refused:
            self._keeper.start()

    def deliver(self, message: list[Any]) -> None:
        """Take in what pub/sub pushed."""
        if message[0] == b"message" and message[1] == self.channel:
            grant = read_grant(message[2])
            if grant is not None:
                self._on_grant(grant, self.server_clock)

    def _subscribe(self, connection: AbstractConnection) -> Wire:
        self._wire = wire = Wire(connection, self._received, self.deliver, self._lost, self._clock)
        self._say_subscribe()
        return wire

    def _say_subscribe(self) -> None:
        if self._wire is not None:
            self._wire.write(pack((b"SUBSCRIBE", self.channel)))

    def _received(self, reply: Any) -> None:
        """Take in a RESP2 message, which looks like a reply."""
        if isinstance(reply, ResponseError):
            logger.warning("no inbox, waiters poll: SUBSCRIBE was refused: %s", reply)
            if is_transient(reply):
                loop = asyncio.get_running_loop()
                loop.call_later(SUBSCRIBE_AGAIN, self._say_subscribe)
            else:
                self._refused = True
                self._keeper.lost()
        elif reply[0] == b"subscribe":
            self.listening = True
            self.server_clock = ServerClock()
            self._on_listening()
        else:
            self.deliver(reply)

    def _lost(self, error: Exception) -> None:
        logger.debug("inbox lost, connecting again: %s", error)
        self._wire = None
        self.listening = False
        self._keeper.lost()

    def leave(self) -> None:
        """Break the connection, to open another one: the pipe leaves its server, too."""
        if self._wire is not None:
            self._wire.abort(ConnectionError("the pipe connects anew"))

    def _close(self) -> None:
        self.listening = False
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    def stop(self) -> None:
        """Stop listening, without waiting for the end of it."""
        self._keeper.stop()
        self._close()

    async def join(self) -> None:
        """Wait until nothing listens any more."""
        await self._keeper.join()
