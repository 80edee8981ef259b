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

from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import ResponseError

from aiodistlock.core.clock import Clock
from aiodistlock.engine.greeting import SUBSCRIBE_AGAIN
from aiodistlock.engine.keeper import Keeper
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
    The second connection that RESP2 needs; opened by :meth:`listen`, kept until closed.

    :param on_listening: told each time the channel is heard (again)
    :param on_grant: gets each grant
    """

    def __init__(
        self,
        pool: ConnectionPool,
        channel: bytes,
        *,
        on_grant: Callable[[Grant], object],
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
        """Whether the server confirmed the subscription."""

    def listen(self) -> None:
        """Start to listen, if that is not under way."""
        if not self._refused:
            self._keeper.start()

    def deliver(self, message: list[Any]) -> None:
        """Take in what pub/sub pushed."""
        if message[0] == b"message" and message[1] == self.channel:
            grant = read_grant(message[2])
            if grant is not None:
                self._on_grant(grant)

    def _subscribe(self, connection: AbstractConnection) -> None:
        self._wire = Wire(connection, self._received, self.deliver, self._lost, self._clock)
        self._say_subscribe()

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
