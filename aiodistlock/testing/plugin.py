"""Fixtures for pytest; an entry point has it load them where the package is installed.

So it is loaded in each run of each project there, also in those that use none of them.
That is why it is installed beside the package (as ``_aiodistlock_pytest``), whose import
would cost those runs half a second or more, and imports it in the fixtures only.

All are plain fixtures, so they serve tests under pytest-asyncio, under anyio's plugin,
and tests that call ``asyncio.run`` themselves.  A client begins to work in the event loop
that first uses it, and is closed there after the test if that loop is still open.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from aiodistlock import LockClient
    from aiodistlock.testing import EmbeddedRedis, ManualClock


@pytest.fixture
def distlock_clock() -> ManualClock:
    """A clock that only ``await distlock_clock.advance(seconds)`` turns.

    A test that asks for it and for ``distlock`` has locks that go by it.
    """
    from aiodistlock.testing import ManualClock

    return ManualClock()


@pytest.fixture
def distlock(request: pytest.FixtureRequest) -> Iterator[LockClient]:
    """A ``LockClient`` in memory, of the test's own; no Redis is needed.

    ``LockClient.in_memory(share=distlock)`` is another process beside it.
    """
    from aiodistlock import LockClient

    wanted = "distlock_clock" in request.fixturenames
    clock: ManualClock | None = request.getfixturevalue("distlock_clock") if wanted else None
    client = LockClient.in_memory(clock=clock)
    yield client
    _close(client)


@pytest.fixture(scope="session")
def distlock_redis_server() -> Iterator[EmbeddedRedis]:
    """A real Redis server that dies with the run, for all tests that want one.

    ``AIODISTLOCK_REDIS_SERVER`` names the binary; default: ``redis-server`` or
    ``valkey-server`` on PATH, or the one that ``aiodistlock[testing]`` installs.
    """
    from aiodistlock.testing import EmbeddedRedis
    from aiodistlock.testing.discovery import server_binary

    with EmbeddedRedis(binary=server_binary(os.environ)) as server:
        yield server


@pytest.fixture
def distlock_redis_url(distlock_redis_server: EmbeddedRedis) -> str:
    """The URL of a real Redis that is empty when the test begins."""
    _flush(distlock_redis_server.port)
    return distlock_redis_server.url


@pytest.fixture
def distlock_redis(distlock_redis_url: str) -> Iterator[LockClient]:
    """A ``LockClient`` on a real Redis that is empty when the test begins."""
    from aiodistlock import LockClient

    client = LockClient.from_url(distlock_redis_url)
    yield client
    _close(client)


def _close(client: LockClient) -> None:
    """Close a client in the loop that used it; where that has ended, so has the client."""
    for loop in {engine.loop for engine in client._engines.values()}:
        if not loop.is_closed() and not loop.is_running():
            loop.run_until_complete(client.aclose())


def _flush(port: int) -> None:
    """Empty the server, without a Redis client."""
    import socket

    from aiodistlock.testing.discovery import LOOPBACK

    with socket.create_connection((LOOPBACK, port), timeout=5) as connection:
        connection.sendall(b"FLUSHALL\r\n")
        answer = connection.recv(64)
    if not answer.startswith(b"+OK"):
        raise RuntimeError(f"the embedded server could not be emptied: {answer!r}")
