"""Opening one connection by what a redis-py pool knows about reaching its server."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from redis.asyncio.connection import AbstractConnection
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, DataError, ResponseError

from aiodistlock.connection.error_replies import as_redis_py
from aiodistlock.connection.handshake import Handshake
from aiodistlock.connection.transport import check_usable, transport_of
from aiodistlock.protocol.refusals import is_transient

_FAULTS = (
    AssertionError,
    AttributeError,
    DataError,
    ImportError,
    NameError,
    NotImplementedError,
    TypeError,
)
"""Mistakes in a program or its settings, such as a connection class without a method that is
called (``NotImplementedError``): connecting again will not help."""


class Connector(Protocol):
    """Makes connections: a redis-py pool, or what stands for one."""

    def make_connection(self) -> AbstractConnection:
        """Make a connection that is not open yet."""
        ...


def address_of(connector: Connector) -> str:
    """Return where connections are made to, for people."""
    to: dict[str, Any] = getattr(connector, "connection_kwargs", {})
    return str(to.get("path") or f"{to.get('host', 'localhost')}:{to.get('port', 6379)}")


async def _plainly(connection: Any) -> None:
    await connection.connect()


async def _within(bound: float, connecting: Awaitable[None]) -> None:
    try:
        async with asyncio.timeout(bound):
            await connecting
    except TimeoutError as error:
        if str(error):
            raise
        raise TimeoutError(f"no connection within {bound:.3g} s") from None


async def open_connection(
    pool: Connector,
    connect: Callable[[Any], Awaitable[None]] = _plainly,
    *,
    at: tuple[str, int] | None = None,
    within: float = math.inf,
    handshake: Handshake | None = None,
) -> AbstractConnection:
    """
    Open a connection by a pool's own factory, outside of the pool's count.

    So a pool that is small or exhausted neither starves the locks nor is starved.

    :param connect: connects what the factory made, and says what there is to say first
    :param at: host and port to go to, instead of the pool's
    :param within: seconds that it may take; less if the pool's ``socket_connect_timeout``
        (default 5) says so
    :param handshake: what is said on it, and was to others before
    :raises TypeError: if the pool's class of connections cannot be used
    :raises redis.exceptions.RedisError: if the handshake fails
    :raises OSError: if the server cannot be reached
    :raises TimeoutError: if it takes too long
    """
    connection: Any = pool.make_connection()
    check_usable(connection)
    if at is not None:
        connection.host, connection.port = at
    # Retrying is the caller's.  redis-py's own would run for seconds unseen, and its
    # ``wait_for`` around each write swallows a cancellation on Python 3.11 (CPython
    # #86296), so its timeouts are off, and one of ours stands around the whole.
    connection.retry = type(connection.retry)(NoBackoff(), 0)
    connection.health_check_interval = 0
    bound = min(within, connection.socket_connect_timeout or 5.0)
    connection.socket_timeout = None
    loop = asyncio.get_running_loop()
    try:
        with (handshake or Handshake()).on(connection):
            await _within(bound, connect(connection))
    except BaseException as error:
        if loop.is_closed():
            # With this task in it, and redis-py has tried to clean up in it, and raised.
            raise GeneratorExit from None
        await discard(connection)
        if isinstance(error, Exception) and (known := as_redis_py(error)) is not error:
            raise known from error
        raise
    opened: AbstractConnection = connection
    return opened


class Opener:
    """
    Opens the connections of one keeper, to wherever its connector leads.

    :ivar look_every: seconds between two looks whether that is elsewhere by now, ``None``:
        it never is
    """

    look_every: float | None = None

    def __init__(self, connector: Connector, handshake: Handshake | None = None) -> None:
        self.connector = connector
        self._handshake = handshake or Handshake()

    @property
    def place(self) -> str:
        """Where they lead to, for people."""
        return address_of(self.connector)

    async def open(self, at: tuple[str, int] | None = None) -> AbstractConnection:
        """Open one; raises as :func:`open_connection`, whose ``at`` it takes."""
        return await open_connection(self.connector, at=at, handshake=self._handshake)

    async def leads_elsewhere(self) -> str | None:
        """Say why the next one would lead to another server, ``None`` if it would not."""
        return None

    def close(self) -> None:
        """Let go of what it keeps open itself; that opens again when it is needed."""


class Fault(Exception):
    """
    Code of ours, of the client library or of the user's does not do what it should.

    :param error: what it raised
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(f"{type(error).__name__}: {error}")
        self.__cause__ = error


def lasts(error: Exception) -> bool:
    """
    Tell whether connecting again will not help.

    A wrong password, an ACL, no such database; or an option of the wrong type, at which
    redis-py fails as it connects, and a fault of somebody's code.
    """
    if isinstance(error, (Fault, *_FAULTS)) or isinstance(error.__cause__, _FAULTS):
        return True
    return isinstance(error, (AuthenticationError, ResponseError)) and not is_transient(error)


async def discard(connection: AbstractConnection) -> None:
    """Close a connection at once; under TLS redis-py would leave it to the server's goodbye."""
    with contextlib.suppress(RuntimeError):  # its event loop is closed
        if (transport := transport_of(connection)) is not None:
            transport.abort()
        await connection.disconnect(nowait=True)
