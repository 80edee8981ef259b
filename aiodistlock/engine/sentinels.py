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
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import ResponseError

from aiodistlock.core.clock import local_clock
from aiodistlock.engine.opening import open_connection
from aiodistlock.engine.wire import Wire, pack

LOOK_EVERY = 1.0
"""Seconds between two looks at who is the master, while a connection is open."""

ALL_WITHIN = 0.5
"""Seconds for which an answer is compared with those of slower sentinels."""

ASK_WITHIN = 2.0
"""Seconds for which a sentinel is waited for at all."""

MASTER_WITHIN = 2.0
"""Seconds for connecting to the master: a frozen one must not hold up the next look."""


class Sighting(NamedTuple):
    """Where a sentinel says that the master is; the greatest of several is the newest."""

    epoch: int
    up: bool
    address: tuple[str, int]


class Sentinels:
    """
    The sentinels of one pool, asked for its master.

    :param pool: the pool that :meth:`redis.asyncio.sentinel.Sentinel.master_for` made
    """

    def __init__(self, pool: SentinelConnectionPool) -> None:
        self._pool = pool
        # In the order of redis-py's own list, which it changes as it goes.
        self._lines = [_Line(each, pool.service_name) for each in pool.sentinel_manager.sentinels]
        self._master: Sighting | None = None

    @classmethod
    def of(cls, pool: object) -> Self | None:
        """Return the sentinels of a pool, ``None`` if it has a fixed address."""
        return cls(pool) if isinstance(pool, SentinelConnectionPool) else None

    async def open_master(self) -> AbstractConnection:
        """
        Open a connection to the present master.

        :raises ConnectionError: if no sentinel names one, or it says that it is a replica
        :raises redis.exceptions.RedisError: as ``open_connection``
        :raises OSError: as ``open_connection``
        """
        sightings = await self._look()
        if not sightings or not max(sightings).up:
            raise ConnectionError(f"no sentinel names a master {self._pool.service_name!r}")
        master = max(sightings)
        host, port = master.address
        forced: str | None = getattr(self._pool.sentinel_manager, "_force_master_ip", None)

        async def connect(connection: Any) -> None:
            # What redis-py's connection does once it has asked a sentinel.
            await connection.connect_to((forced or host, port))
            await _check_role(connection, master.address)

        connection = await open_connection(self._pool, connect, within=MASTER_WITHIN)
        self._master = master
        return connection

    async def name_another(self) -> bool:
        """Tell whether the sentinels name another master than the one connected to."""
        sightings = await self._look()
        if not sightings or self._master is None:
            return False
        newest = max(sightings)
        if newest.address == self._master.address or not newest.up:
            return False
        # An older epoch is news only if all say so: they were set up anew.
        return newest.epoch > self._master.epoch or len(sightings) == len(self._lines)

    async def _look(self) -> list[Sighting]:
        """Ask all sentinels; wait for slow ones only if no other answers."""
        asks = [line.ask() for line in self._lines]
        prompt = [ask for ask, line in zip(asks, self._lines, strict=True) if line.prompt]
        await asyncio.wait(prompt or asks, timeout=ALL_WITHIN)
        for ask, line in zip(asks, self._lines, strict=True):
            # Who kept us waiting does so once.
            line.prompt = ask.done()
        pending = {ask for ask in asks if not ask.done()}
        while pending and not _answers(asks):
            _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        return _answers(asks)

    def close(self) -> None:
        """Close the connections to the sentinels; they open again when asked."""
        for line in self._lines:
            line.close()


def _answers(asks: list[asyncio.Task[Sighting | None]]) -> list[Sighting]:
    sightings = (ask.result() for ask in asks if ask.done() and not ask.cancelled())
    return [sighting for sighting in sightings if sighting is not None]


async def _check_role(connection: Any, address: tuple[str, int]) -> None:
    await connection.send_command("ROLE")
    try:
        role = await connection.read_response(disable_decoding=True)
    except ResponseError:
        return  # an ACL forbids the question: the sentinels' word must do
    if role[0] != b"master":
        raise ConnectionError(f"{address[0]}:{address[1]} is no master yet, or no more")


class _Line:
    """A connection to one sentinel, opened when it is asked."""

    def __init__(self, sentinel: Redis, service_name: str) -> None:
        self._sentinel = sentinel
        self._service_name = service_name.encode()
        self._wire: Wire | None = None
        self._answer: asyncio.Future[list[Any]] | None = None
        self._replies: list[Any] = []
        self._asking: asyncio.Task[Sighting | None] | None = None
        self.prompt = True
        """Whether it answered in time when it was asked last."""

    def ask(self) -> asyncio.Task[Sighting | None]:
        """Ask for the master, unless that is under way: ``None`` if there is no answer."""
        if self._asking is None or self._asking.done():
            loop = asyncio.get_running_loop()
            self._asking = loop.create_task(self._ask(), name="aiodistlock sentinel")
        return self._asking

    async def _ask(self) -> Sighting | None:
        try:
            async with asyncio.timeout(ASK_WITHIN):
                return _read(*await self._exchange())
        except Exception:  # noqa: BLE001  # redis-py, DNS, credential providers: the others are asked too
            self._hang_up()
            return None

    async def _exchange(self) -> list[Any]:
        if self._wire is None:
            connection = await open_connection(self._sentinel.connection_pool)
            self._wire = Wire(connection, self._received, _ignored, self._lost, local_clock)
        self._replies = []
        self._answer = asyncio.get_running_loop().create_future()
        name = self._service_name
        # The first has epoch and flags, the second the address, also of a replica that
        # was promoted but that the others do not follow yet.
        self._wire.write(
            pack((b"SENTINEL", b"MASTER", name))
            + pack((b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", name))
        )
        return await self._answer

    def _received(self, reply: Any) -> None:
        self._replies.append(reply)
        if len(self._replies) == 2 and self._answer is not None and not self._answer.done():
            self._answer.set_result(self._replies)

    def _lost(self, error: Exception) -> None:
        self._wire = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)

    def close(self) -> None:
        """Let go of a question that is unanswered, and close the connection."""
        if self._asking is not None:
            self._asking.cancel()
            self._asking = None
        self._hang_up()

    def _hang_up(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()


def _ignored(_push: list[Any]) -> None:
    """Take no note of what a sentinel pushes."""


def _read(state: Any, address: Any) -> Sighting | None:
    """Read the answers of SENTINEL MASTER and of SENTINEL GET-MASTER-ADDR-BY-NAME."""
    if isinstance(state, ResponseError) or not address:
        return None  # this sentinel does not watch such a master
    fields = state if isinstance(state, dict) else _pairs(state)
    host, port = address[0].decode(), int(address[1])
    epoch = int(fields[b"config-epoch"])
    if (host, port) != (fields[b"ip"].decode(), int(fields[b"port"])):
        return Sighting(epoch + 1, True, (host, port))  # promoted: the epoch follows
    down = {b"s_down", b"o_down"} & set(fields[b"flags"].split(b","))
    return Sighting(epoch, not down, (host, port))


def _pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))
