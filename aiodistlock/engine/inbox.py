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

from redis.asyncio.connection import ConnectionPool
from redis.exceptions import ResponseError

from aiodistlock.core.backoff import Backoff
from aiodistlock.core.clock import Clock
from aiodistlock.engine.wire import Wire, open_connection, pack

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
        backoff: Backoff,
    ) -> None:
        self._pool = pool
        self.channel = channel
        self._on_grant = on_grant
        self._on_listening = on_listening
        self._clock = clock
        self._rng = rng
        self._backoff = backoff
        self.keeper: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()
        self._refused = False
        self._closing = False
        self.listening = False
        """Whether the server confirmed the subscription."""

    def listen(self) -> None:
        """Start to listen, if that is not under way."""
        if self.keeper is None and not self._closing and not self._refused:
            self.keeper = asyncio.get_running_loop().create_task(
                self._keep(), name="aiodistlock inbox"
            )

    def deliver(self, message: list[Any]) -> None:
        """Take in what pub/sub pushed."""
        if message[0] == b"message" and message[1] == self.channel:
            grant = read_grant(message[2])
            if grant is not None:
                self._on_grant(grant)

    async def _keep(self) -> None:
        failures = 0
        wire: Wire | None = None
        try:
            while not self._refused:
                self._ended.clear()
                try:
                    connection = await open_connection(self._pool)
                except Exception as error:  # noqa: BLE001  # redis-py, DNS, credential providers
                    logger.debug("inbox not connected, trying again: %s", error)
                    await asyncio.sleep(self._backoff.delay(failures, self._rng))
                    failures += 1
                    continue
                failures = 0
                wire = Wire(connection, self._received, self.deliver, self._lost, self._clock)
                wire.write(pack((b"SUBSCRIBE", self.channel)))
                await self._ended.wait()
        finally:
            self.listening = False
            self.keeper = None
            if wire is not None:
                wire.close()

    def _received(self, reply: Any) -> None:
        """Take in a RESP2 message, which looks like a reply."""
        if isinstance(reply, ResponseError):
            logger.warning("no inbox, waiters poll: SUBSCRIBE was refused: %s", reply)
            self._refused = True
            self._ended.set()
        elif reply[0] == b"subscribe":
            self.listening = True
            self._on_listening()
        else:
            self.deliver(reply)

    def _lost(self, error: Exception) -> None:
        logger.debug("inbox lost, connecting again: %s", error)
        self.listening = False
        self._ended.set()

    def stop(self) -> None:
        """Stop listening, without waiting for the end of it."""
        self._closing = True
        self.listening = False
        if self.keeper is not None:
            self.keeper.cancel()
