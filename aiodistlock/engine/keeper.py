"""The task that keeps one connection to Redis open for as long as it is wanted."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from random import Random

from redis.asyncio.connection import AbstractConnection

from aiodistlock.core.backoff import Backoff
from aiodistlock.engine.opening import Connector, open_connection
from aiodistlock.engine.sentinels import LOOK_EVERY, Sentinels
from aiodistlock.engine.wire import Wire

logger = logging.getLogger("aiodistlock")

RECONNECT = Backoff(initial=0.02, factor=2.0, cap=1.0, jitter=0.5)

LINGER = 0.5
"""Longest that a connection outlives the end of its event loop's main task, seconds."""

SHORT_LIFE = 0.5
"""A connection that broke within these seconds counts as a failure to connect."""


class Keeper:
    """
    Opens a connection, and another one whenever that is lost.

    Where the pool is a Sentinel's, the connection goes to the present master, and is left
    when the sentinels name another one: a master that is frozen or cut off says nothing.

    :param pool: the pool whose factory makes the connection
    :param wanted: whether anybody needs the connection; asked before each connect: once
        it says no, the task ends
    :param opened: gets each connection as soon as it is open, and makes a wire of it
    :param failed: told of each failure to connect, and how many came before it
    :param lingers: whether to outlive the end of the event loop's main task a little
    :param ended: told when the task ends, whoever ended it: it closes what is open
    """

    def __init__(
        self,
        pool: Connector,
        name: str,
        rng: Random,
        *,
        wanted: Callable[[], bool],
        opened: Callable[[AbstractConnection], Wire],
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
        self.on_cancelled: Callable[[], object] = lambda: None
        """Told when somebody else ends the task than :meth:`stop`."""
        self._lingers = lingers
        self._lost = asyncio.Event()
        self._sentinels = Sentinels.of(pool)
        self._task: asyncio.Task[None] | None = None
        self.stopped = False
        """Whether it will not connect again."""

    @property
    def asks_sentinels(self) -> bool:
        """Whether connecting anew may reach another server."""
        return self._sentinels is not None

    def start(self) -> None:
        """Connect, unless that is under way."""
        if self._task is None and not self.stopped:
            self._task = asyncio.get_running_loop().create_task(self._run(), name=self._name)

    @property
    def ended(self) -> bool:
        """Whether its task has ended."""
        return self._task is None

    def lost(self) -> None:
        """Take note that the connection is lost."""
        self._lost.set()

    async def _run(self) -> None:
        failures = 0
        wire: Wire | None = None
        try:
            while self._wanted():
                self._lost.clear()
                try:
                    connection = await self._open()
                except Exception as error:  # noqa: BLE001  # redis-py, DNS, credential providers
                    self._failed(error, failures)
                    await asyncio.sleep(RECONNECT.delay(failures, self._rng))
                    failures += 1
                    continue
                opened_at = asyncio.get_running_loop().time()
                wire = self._opened(connection)
                await self._until_lost(connection)
                if asyncio.get_running_loop().time() - opened_at > SHORT_LIFE:
                    failures = 0
                    continue
                # Once at once; but a server that refuses all we ask is not to be stormed.
                if failures:
                    await asyncio.sleep(RECONNECT.delay(failures, self._rng))
                failures += 1
        except asyncio.CancelledError:
            if not self.stopped:
                # From outside, as by the end of ``asyncio.run``: the tasks that are
                # cancelled along with this one still have their clean-up to send.
                self.stopped = True
                self.on_cancelled()
                if self._lingers:
                    await self._linger()
            raise
        finally:
            if self._sentinels is not None:
                self._sentinels.close()
            self._ended()
            try:
                if wire is not None and self.stopped:
                    await wire.gone(LINGER)
            finally:
                self._task = None

    async def _open(self) -> AbstractConnection:
        if self._sentinels is None:
            return await open_connection(self._pool)
        return await self._sentinels.open_master()

    async def _until_lost(self, connection: AbstractConnection) -> None:
        sentinels = self._sentinels
        if sentinels is None:
            await self._lost.wait()
            return
        while not self._lost.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY):
                    await self._lost.wait()
                    return
            if await sentinels.name_another() and connection._writer is not None:
                logger.warning("%s: the sentinels name another master", self._name)
                connection._writer.transport.abort()

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
