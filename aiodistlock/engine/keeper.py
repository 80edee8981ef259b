"""The task that keeps one connection to Redis open for as long as it is wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random

from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from aiodistlock.core.backoff import Backoff

RECONNECT = Backoff(initial=0.02, factor=2.0, cap=1.0, jitter=0.5)

LINGER = 0.5
"""Longest that a connection outlives the end of its event loop's main task, seconds."""


class Keeper:
    """
    Opens a connection, and another one whenever that is lost.

    :param pool: the pool whose factory makes the connection
    :param wanted: whether anybody needs the connection; asked before each connect: once
        it says no, the task ends
    :param opened: gets each connection as soon as it is open
    :param failed: told of each failure to connect, and how many came before it
    :param lingers: whether to outlive the end of the event loop's main task a little
    :param ended: told when the task ends, whoever ended it: it closes what is open
    """

    def __init__(
        self,
        pool: ConnectionPool,
        name: str,
        rng: Random,
        *,
        wanted: Callable[[], bool],
        opened: Callable[[AbstractConnection], object],
        failed: Callable[[Exception, int], object],
        ended: Callable[[], object],
        lingers: bool = True,
    ) -> None:
        self._pool = pool
        self._name = name
        self._rng = rng
        self._wanted = wanted
        self._opened = opened
        self._failed = failed
        self._ended = ended
        self._lingers = lingers
        self._lost = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.stopped = False
        """Whether it will not connect again."""

    def start(self) -> None:
        """Connect, unless that is under way."""
        if self._task is None and not self.stopped:
            self._task = asyncio.get_running_loop().create_task(self._run(), name=self._name)

    def lost(self) -> None:
        """Take note that the connection is lost."""
        self._lost.set()

    async def _run(self) -> None:
        failures = 0
        try:
            while self._wanted():
                self._lost.clear()
                try:
                    connection = await open_connection(self._pool)
                except Exception as error:  # noqa: BLE001  # redis-py, DNS, credential providers
                    self._failed(error, failures)
                    await asyncio.sleep(RECONNECT.delay(failures, self._rng))
                    failures += 1
                    continue
                failures = 0
                self._opened(connection)
                await self._lost.wait()
        except asyncio.CancelledError:
            if not self.stopped:
                # From outside, as by the end of ``asyncio.run``: the tasks that are
                # cancelled along with this one still have their clean-up to send.
                self.stopped = True
                if self._lingers:
                    await self._linger()
            raise
        finally:
            self._task = None
            self._ended()

    async def _linger(self) -> None:
        until = asyncio.get_running_loop().time() + LINGER
        while self._wanted() and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(0.005)

    def stop(self) -> None:
        """End the task, now and for good."""
        self.stopped = True
        if self._task is not None:
            self._task.cancel()

    async def join(self) -> None:
        """Wait until the task has ended."""
        task = self._task
        while task is not None and not task.done():
            # Again until it ends: redis-py may swallow a cancellation while connecting.
            task.cancel()
            await asyncio.wait([task], timeout=0.1)


async def open_connection(pool: ConnectionPool) -> AbstractConnection:
    """
    Open a connection by a pool's own factory, outside of the pool's count.

    So a pool that is small or exhausted neither starves the locks nor is starved.

    :raises redis.exceptions.RedisError: if the handshake fails
    :raises OSError: if the server cannot be reached
    :raises TimeoutError: if it takes longer than the pool's ``socket_connect_timeout``
    """
    connection: AbstractConnection = pool.make_connection()  # type: ignore[no-untyped-call]  # redis-py's
    # Retrying is the caller's.  redis-py's own would run for seconds unseen, and its
    # ``wait_for`` around each write swallows a cancellation on Python 3.11 (CPython
    # #86296), so its timeouts are off, and one of ours stands around the whole.
    connection.retry = Retry(NoBackoff(), 0)
    connection.health_check_interval = 0
    bound = connection.socket_connect_timeout or 5.0
    connection.socket_timeout = None
    try:
        async with asyncio.timeout(bound):
            await connection.connect()  # type: ignore[no-untyped-call]  # redis-py's
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    return connection
