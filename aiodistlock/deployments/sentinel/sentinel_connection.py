"""A connection to one sentinel, and what that says about the master."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, ResponseError

from aiodistlock.connection.handshake import Handshake
from aiodistlock.connection.opening import open_connection
from aiodistlock.connection.wire import Unreadable, Wire, pack
from aiodistlock.core.background import start_task
from aiodistlock.core.clock import local_clock
from aiodistlock.core.escaping import message_of
from aiodistlock.protocol.refusals import error_code

ASK_WITHIN = 2.0
"""Seconds for which a sentinel is waited for at all: to connect, and then to answer."""


class SentinelAnswer(NamedTuple):
    """Where a sentinel says that the master is; the greatest of several is the newest."""

    epoch: int
    up: bool
    address: tuple[str, int]


class SentinelConnection:
    """
    A connection to one sentinel, opened when it is asked.

    :param sentinel: redis-py's client of it; only its settings are used
    :param service_name: by which the sentinels know the master
    """

    def __init__(self, sentinel: Redis, service_name: str) -> None:
        self._pool = sentinel.connection_pool
        self._handshake = Handshake()
        self._service_name = service_name.encode()
        self._wire: Wire | None = None
        self._answer: asyncio.Future[list[Any]] | None = None
        self._replies: list[Any] = []
        self._asking: asyncio.Task[SentinelAnswer | None] | None = None
        self.prompt = True
        """Whether it answered in time when it was asked last."""
        self._problem: Exception | None = None

    def ask(self) -> asyncio.Task[SentinelAnswer | None]:
        """Ask for the master, unless that is under way: ``None`` if there is no answer."""
        asking = self._asking
        if asking is None or asking.done() or asking.cancelling():
            asking = self._asking = start_task(self._ask(), "aiodistlock sentinel")
        return asking

    async def _ask(self) -> SentinelAnswer | None:
        self._problem = TimeoutError("no answer")
        try:
            # A bound each: from afar the handshake takes more round trips than the question.
            if self._wire is None:
                connection = await open_connection(
                    self._pool, within=ASK_WITHIN, handshake=self._handshake
                )
                self._wire = Wire(connection, self._received, _ignored, self._lost, local_clock)
            async with asyncio.timeout(ASK_WITHIN):
                state, address = await self._exchange(self._wire)
            self._problem = state if isinstance(state, ResponseError) else None
            if self.refused:
                self._hang_up()  # it may let us ask over another one: passwords are rotated
            return _read(state, address)
        except Exception as error:  # noqa: BLE001  # redis-py, DNS, credential providers: the others are asked too
            self._problem = error if str(error) else self._problem
            self._hang_up()
            return None

    async def _exchange(self, wire: Wire) -> list[Any]:
        self._replies = []
        self._answer = asyncio.get_running_loop().create_future()
        name = self._service_name
        # The first has epoch and flags, the second the address, also of a replica that
        # was promoted but that the others do not follow yet.
        wire.write(
            pack((b"SENTINEL", b"MASTER", name))
            + pack((b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", name))
        )
        return await self._answer

    def _received(self, reply: Any) -> None:
        if self._answer is None or self._answer.done():
            raise Unreadable("nobody asked for it", reply)
        self._replies.append(reply)
        if len(self._replies) == 2:
            self._answer.set_result(self._replies)

    def _lost(self, error: Exception) -> None:
        self._wire = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)

    @property
    def refused(self) -> bool:
        """Whether it lets nobody ask who says no more than we do."""
        problem = self._problem
        codes = ("NOAUTH", "NOPERM", "WRONGPASS")
        return isinstance(problem, AuthenticationError) or (
            isinstance(problem, ResponseError) and error_code(problem) in codes
        )

    @property
    def excuse(self) -> str:
        """Why it named no master when it was asked last."""
        problem = self._problem
        return "takes it for down" if problem is None else message_of(problem)

    @property
    def address(self) -> str:
        """Where it is, for people."""
        settings = self._pool.connection_kwargs
        return f"{settings.get('host')}:{settings.get('port')}"

    def close(self) -> None:
        """Let go of a question that is unanswered, and close the connection."""
        if self._asking is not None and not self._asking.get_loop().is_closed():
            self._asking.cancel()
        self._hang_up()

    def _hang_up(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.drop()


def _ignored(_push: list[Any]) -> None:
    """Take no note of what a sentinel pushes."""


def _read(state: Any, address: Any) -> SentinelAnswer | None:
    """Read the answers of SENTINEL MASTER and of SENTINEL GET-MASTER-ADDR-BY-NAME."""
    if isinstance(state, ResponseError) or isinstance(address, ResponseError) or not address:
        return None  # this sentinel does not watch such a master, or does not tell us
    fields = state if isinstance(state, dict) else _pairs(state)
    host, port = address[0].decode(), int(address[1])
    epoch = int(fields[b"config-epoch"])
    if (host, port) != (fields[b"ip"].decode(), int(fields[b"port"])):
        return SentinelAnswer(epoch + 1, True, (host, port))  # promoted: the epoch follows
    down = {b"s_down", b"o_down"} & set(fields[b"flags"].split(b","))
    return SentinelAnswer(epoch, not down, (host, port))


def _pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))
