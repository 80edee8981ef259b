"""Opening a connection: what is told where none comes about."""

import asyncio

import pytest
from redis.asyncio import ConnectionPool

from aiodistlock.connection.opening import open_connection


async def test_a_server_that_says_nothing_is_told_as_such() -> None:
    """A bare TimeoutError would leave the cause in StoreUnavailable empty."""
    over = asyncio.Event()

    async def say_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        pool = ConnectionPool(host=host, port=port, protocol=3, socket_connect_timeout=0.1)
        with pytest.raises(TimeoutError, match=r"no connection within 0\.1 s"):
            await open_connection(pool)
        over.set()
