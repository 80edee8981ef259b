"""Which server is the master now: what a pool's sentinels say.

redis-py asks one sentinel after the other, each with ten retries, so a dead one at the
head of the list holds a client up for longer than a failover takes.  Here all are asked
at once, over connections that stay open.

Rules
-----
1. Of differing answers the one with the highest configuration epoch counts: a sentinel
   that is cut off names the former master.
2. A master that the sentinels count as down is none.
3. The server must say itself that it is a master: sentinels learn of a failover at
   different instants ("Guidelines for Redis clients with support for Redis Sentinel").
4. While a connection is open the sentinels are asked again every ``LOOK_EVERY``: a former
   master that is frozen or cut off says nothing, or grants what nobody else knows.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from redis.asyncio.connection import AbstractConnection
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import AuthenticationError

from aiodistlock.connection.error_replies import as_error_reply
from aiodistlock.connection.opening import Connector, Opener, open_connection
from aiodistlock.deployments.sentinel.sentinel_connection import SentinelAnswer, SentinelConnection

LOOK_EVERY = 1.0
"""Seconds between two looks at who is the master, while a connection is open."""

ALL_WITHIN = 0.5
"""Seconds for which an answer is compared with those of slower sentinels."""

MASTER_WITHIN = 2.0
"""Seconds for connecting to the master: a frozen one must not hold up the next look."""


class Sentinels(Opener):
    """
    The sentinels of one pool, asked for its master; opens connections to that.

    :param pool: the pool that :meth:`redis.asyncio.sentinel.Sentinel.master_for` made
    """

    look_every = LOOK_EVERY

    def __init__(self, pool: SentinelConnectionPool) -> None:
        super().__init__(pool)
        self._pool = pool
        # In the order of redis-py's own list, which it changes as it goes.
        self._connections = [
            SentinelConnection(each, pool.service_name) for each in pool.sentinel_manager.sentinels
        ]
        self._master: SentinelAnswer | None = None

    @property
    def place(self) -> str:
        """Where the master was seen last, for people."""
        name = f"master {self._pool.service_name!r}"
        return "{}:{} ({})".format(*self._master.address, name) if self._master else name

    async def open(self, at: tuple[str, int] | None = None) -> AbstractConnection:  # noqa: ARG002  # as they say
        """
        Open a connection to the present master.

        :raises ConnectionError: if no sentinel names one, or it says that it is a replica
        :raises AuthenticationError: if all sentinels refuse to answer us
        :raises redis.exceptions.RedisError: as ``open_connection``
        :raises OSError: as ``open_connection``
        """
        sightings = await self._look()
        if not sightings or not max(sightings).up:
            raise self._nowhere()
        master = max(sightings)
        host, port = master.address
        forced: str | None = getattr(self._pool.sentinel_manager, "_force_master_ip", None)

        async def connect(connection: Any) -> None:
            # What redis-py's connection does once it has asked a sentinel.
            await connection.connect_to((forced or host, port))
            await _check_role(connection, master.address)

        connection = await open_connection(
            self._pool, connect, within=MASTER_WITHIN, handshake=self._handshake
        )
        self._master = master
        return connection

    def _nowhere(self) -> Exception:
        """Build the error that there is no master to go to."""
        said: dict[str, list[str]] = {}
        for connection in self._connections:
            said.setdefault(connection.excuse, []).append(connection.address)
        excuses = "; ".join(f"{', '.join(at)}: {excuse}" for excuse, at in said.items())
        message = f"no sentinel names a master {self._pool.service_name!r} ({excuses})"
        if all(connection.refused for connection in self._connections):
            # Asking again will not help, as with a server's wrong password.
            return AuthenticationError(message)
        return ConnectionError(message)

    async def leads_elsewhere(self) -> str | None:
        """Say so if the sentinels name another master than the one connected to."""
        sightings = await self._look()
        if not sightings or self._master is None:
            return None
        newest = max(sightings)
        if newest.address == self._master.address or not newest.up:
            return None
        # An older epoch is news only if all say so: they were set up anew.
        agreed = sum(each.address == newest.address for each in sightings)
        if newest.epoch > self._master.epoch or agreed == len(self._connections):
            return "the sentinels name another master"
        return None

    async def _look(self) -> list[SentinelAnswer]:
        """Ask all sentinels; wait for slow ones only if no other answers."""
        asks = [connection.ask() for connection in self._connections]
        prompt = [
            ask
            for ask, connection in zip(asks, self._connections, strict=True)
            if connection.prompt
        ]
        await asyncio.wait(prompt or asks, timeout=ALL_WITHIN)
        for ask, connection in zip(asks, self._connections, strict=True):
            # Who kept us waiting does so once.
            connection.prompt = ask.done()
        pending = {ask for ask in asks if not ask.done()}
        while pending and not _answers(asks):
            _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        return _answers(asks)

    def close(self) -> None:
        """Close the connections to the sentinels; they open again when asked."""
        for connection in self._connections:
            connection.close()


def opener_to(pool: Connector) -> Opener:
    """Return what opens connections by a pool: to the present master where that has sentinels."""
    # Not by its class: valkey-py has one of its own.
    if hasattr(pool, "sentinel_manager") and hasattr(pool, "service_name"):
        return Sentinels(cast("SentinelConnectionPool", pool))
    return Opener(pool)


def _answers(asks: list[asyncio.Task[SentinelAnswer | None]]) -> list[SentinelAnswer]:
    sightings = (ask.result() for ask in asks if ask.done() and not ask.cancelled())
    return [sighting for sighting in sightings if sighting is not None]


async def _check_role(connection: Any, address: tuple[str, int]) -> None:
    await connection.send_command("ROLE")
    try:
        role = await connection.read_response(disable_decoding=True)
    except Exception as error:
        if as_error_reply(error) is None:
            raise
        return  # an ACL forbids the question: the sentinels' word must do
    if role[0] != b"master":
        raise ConnectionError(f"{address[0]}:{address[1]} is no master yet, or no more")
