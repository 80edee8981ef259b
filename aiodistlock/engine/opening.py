"""Opening one connection by what a redis-py pool knows about reaching its server."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, ResponseError

from aiodistlock.stores.redis_call import is_transient


class Connector(Protocol):
    """Makes connections: a redis-py pool, or what stands for one."""

    def make_connection(self) -> AbstractConnection:
        """Make a connection that is not open yet."""
        ...


async def _plainly(connection: Any) -> None:
    await connection.connect()


async def open_connection(
    pool: Connector,
    connect: Callable[[Any], Awaitable[None]] = _plainly,
    *,
    within: float = math.inf,
) -> AbstractConnection:
    """
    Open a connection by a pool's own factory, outside of the pool's count.

    So a pool that is small or exhausted neither starves the locks nor is starved.

    :param connect: connects what the factory made, and says what there is to say first
    :param within: seconds that it may take; less if the pool's ``socket_connect_timeout``
        (default 5) says so
    :raises redis.exceptions.RedisError: if the handshake fails
    :raises OSError: if the server cannot be reached
    :raises TimeoutError: if it takes too long
    """
    connection = pool.make_connection()
    # Retrying is the caller's.  redis-py's own would run for seconds unseen, and its
    # ``wait_for`` around each write swallows a cancellation on Python 3.11 (CPython
    # #86296), so its timeouts are off, and one of ours stands around the whole.
    connection.retry = Retry(NoBackoff(), 0)
    connection.health_check_interval = 0
    bound = min(within, connection.socket_connect_timeout or 5.0)
    connection.socket_timeout = None
    try:
        async with asyncio.timeout(bound):
            await connect(connection)
    except BaseException as error:
        await discard(connection)
        if type(error) is TimeoutError and not str(error):
            raise TimeoutError(f"no connection within {bound:.3g} s") from None
        raise
    return connection


def lasts(error: Exception) -> bool:
    """Tell whether connecting again will not help: a wrong password, an ACL, no such database."""
    return isinstance(error, (AuthenticationError, ResponseError)) and not is_transient(error)


async def discard(connection: AbstractConnection) -> None:
    """Close a connection at once; under TLS redis-py would leave it to the server's goodbye."""
    if connection._writer is not None:
        connection._writer.transport.abort()
    await connection.disconnect(nowait=True)
