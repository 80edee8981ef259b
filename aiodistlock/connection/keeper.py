"""The task that keeps one connection to Redis open for as long as it is wanted."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from random import Random
from typing import Any, Protocol

from redis.asyncio.connection import AbstractConnection

from aiodistlock.connection.credentials import hear_of_credentials
from aiodistlock.connection.maintenance_notices import read_notice
from aiodistlock.connection.opening import Fault, Opener, discard
from aiodistlock.connection.turned_away import Leaving
from aiodistlock.connection.wire import Wire
from aiodistlock.core.background import end_task, start_task
from aiodistlock.core.backoff import Backoff

logger = logging.getLogger("aiodistlock")

RECONNECT = Backoff(initial=0.02, factor=2.0, cap=1.0, jitter=0.5)

LINGER = 0.5
"""Longest that a connection outlives the end of its event loop's main task, seconds."""

SHORT_LIFE = 0.5
"""A connection that broke within these seconds counts as a failure to connect."""


class KeeperOwner(Protocol):
    """Whose connection it is: a pipe, or an inbox with one of its own."""

    def wanted(self) -> bool:
        """Tell whether anybody needs it; asked before each connect: at a no the task ends."""
        ...

    def opened(self, connection: AbstractConnection) -> Wire:
        """Take the connection, as soon as it is open, and make a wire of it."""
        ...

    def not_opened(self, error: Exception) -> None:
        """
        Take note of a failure to connect.

        Or of a :class:`Fault` that ends the task, so that those who wait are told at once.
        """
        ...

    def cancelled(self) -> None:
        """Take note that somebody else than :meth:`Keeper.stop` ends the task."""
        ...

    def close(self) -> None:
        """Close what is open: the task ends, whoever ended it."""
        ...


class Keeper:
    """
    Opens a connection, and another one whenever that is lost.

    A connection is left when the opener leads elsewhere: a primary that is frozen or cut
    off says nothing.  It is left, too, for a server's notice, and for new credentials.

    :param opener: opens the connection; its own, as it may keep connections itself
    :param owner: whose connection it is
    :param patience: seconds after which a call without an answer fails: one that is made
        between two attempts to connect must not
    :param lingers: whether to outlive the end of the event loop's main task a little
    """

    def __init__(
        self,
        opener: Opener,
        name: str,
        rng: Random,
        owner: KeeperOwner,
        *,
        patience: float = math.inf,
        lingers: bool = True,
    ) -> None:
        self._opener = opener
        self._name = name
        self._rng = rng
        self._owner = owner
        self._pauses = RECONNECT.within(patience)
        self._lingers = lingers
        self._lost = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._wire: Wire | None = None
        self._to: tuple[str, int] | None = None
        """Where the next connection goes, if a server told."""
        self._loop = asyncio.get_running_loop()
        hear_of_credentials(opener.connector, self)
        self.stopped = False
        """Whether it will not connect again."""

    def start(self) -> None:
        """Connect, unless that is under way."""
        if self._task is None and not self.stopped:
            self._task = start_task(self._run(), self._name)

    @property
    def ended(self) -> bool:
        """Whether its task has ended."""
        return self._task is None

    def lost(self) -> None:
        """Take note that the connection is lost, or the one that is being opened is no use."""
        self._lost.set()

    def hear(self, push: list[Any]) -> None:
        """Leave the server if it says that it is about to go."""
        notice = read_notice(push)
        if notice is not None and self._wire is not None:
            self._to = notice.to
            moving = Leaving("the server gave notice that it moves")
            self._loop.call_later(notice.after, self._wire.abort, moving)

    def connect_anew(self) -> None:
        """Connect anew by the credentials of now; from whatever thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._connect_anew)

    def _connect_anew(self) -> None:
        self._lost.set()
        if self._wire is not None and not self.stopped:
            self._wire.abort(Leaving("new credentials were announced"))

    async def _run(self) -> None:
        try:
            await self._keep()
        except asyncio.CancelledError:
            if not self.stopped:
                # From outside, as by the end of ``asyncio.run``: the tasks that are
                # cancelled along with this one still have their clean-up to send.
                self.stopped = True
                self._owner.cancelled()
                if self._lingers:
                    await self._linger()
            raise
        except Exception as error:  # noqa: BLE001  # or nobody would hear of it
            self._owner.not_opened(Fault(error))
        finally:
            await self._end()

    async def _end(self) -> None:
        self._opener.close()
        if self._loop.is_closed():  # with this task in it: there is nothing left to send by
            self.stopped = True
            if self._wire is not None:
                self._wire.drop()
            return
        self._owner.close()
        try:
            if self._wire is not None and self.stopped:
                await self._wire.gone(LINGER)
        finally:
            self._task = self._wire = None

    async def _keep(self) -> None:
        failures = 0
        while self._owner.wanted():
            self._lost.clear()
            try:
                to, self._to = self._to, None
                connection = await self._opener.open(to)
            except Exception as error:  # noqa: BLE001  # redis-py, DNS, credential providers
                self._owner.not_opened(error)
                await asyncio.sleep(self._pauses.delay(failures, self._rng))
                failures += 1
                continue
            if self._lost.is_set():
                await discard(connection)
                continue
            opened_at = self._loop.time()
            self._wire = wire = await self._use(connection)
            await self._until_lost(wire)
            if self._loop.time() - opened_at > SHORT_LIFE:
                failures = 0
                continue
            # Once at once; but a server that refuses all we ask is not to be stormed.
            if failures:
                await asyncio.sleep(self._pauses.delay(failures, self._rng))
            failures += 1

    async def _use(self, connection: AbstractConnection) -> Wire:
        try:
            return self._owner.opened(connection)
        except Exception:
            await discard(connection)
            raise

    async def _until_lost(self, wire: Wire) -> None:
        opener = self._opener
        if opener.look_every is None:
            await self._lost.wait()
            return
        while not self._lost.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(opener.look_every):
                    await self._lost.wait()
                    return
            if (why := await opener.leads_elsewhere()) is not None:
                logger.warning("%s: %s", self._name, why)
                wire.abort(ConnectionError(why))

    async def _linger(self) -> None:
        until = asyncio.get_running_loop().time() + LINGER
        while self._owner.wanted() and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(0.005)

    def stop(self) -> None:
        """End the task, now and for good."""
        self.stopped = True
        if self._task is not None:
            self._task.cancel()

    async def join(self) -> None:
        """Wait until the task has ended."""
        await end_task(self._task)
