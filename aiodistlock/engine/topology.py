"""Asking the nodes of a cluster who owns which slots."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from aiodistlock.core.backoff import Backoff
from aiodistlock.core.slots import Address, SlotRange, read_ranges
from aiodistlock.engine.nodes import Nodes
from aiodistlock.engine.opening import discard, lasts, open_connection

logger = logging.getLogger("aiodistlock")

PAUSE = Backoff(initial=0.1, factor=1.5, cap=1.0, jitter=0.5)
"""Between two rounds in a row; jittered, since all clients miss a node at once."""

PATIENCE = Backoff(initial=1.0, factor=2.0, cap=10.0, jitter=0.0)
"""How long one node may take to answer: a frozen one must not keep us from the next."""


class View(NamedTuple):
    """What one node says about its cluster."""

    ranges: list[SlotRange]
    sharded: bool
    """Whether grants can be published to a slot's nodes alone (Redis 7.0 and later)."""


class Topology:
    """
    Asks one node after the other, over a connection of its own, until one answers.

    It asks when told to, never faster than ``PAUSE`` says.

    :param known: returns the nodes heard of, besides those of the user's settings
    :param suspected: returns the nodes to ask last
    :param on_view: gets what a node said
    :param on_failed: told that no node answered; and whether asking again may help
    :param on_cancelled: told when somebody else cancels its task than :meth:`stop`
    """

    def __init__(
        self,
        nodes: Nodes,
        rng: Random,
        *,
        known: Callable[[], frozenset[Address]],
        suspected: Callable[[], set[Address]],
        on_view: Callable[[View], object],
        on_failed: Callable[[Exception, bool], object],
        on_cancelled: Callable[[], object],
    ) -> None:
        self._nodes = nodes
        self._rng = rng
        self._known = known
        self._suspected = suspected
        self._on_view = on_view
        self._on_failed = on_failed
        self._on_cancelled = on_cancelled
        self._task: asyncio.Task[None] | None = None
        self._rounds = 0
        self._failures = 0
        self.stopped = False
        """Whether it will not ask again."""

    def refresh(self) -> None:
        """Ask soon, unless that is under way."""
        if self._task is None and not self.stopped:
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._run(), name="aiodistlock topology")

    def settled(self) -> None:
        """Take note that there is no trouble: the next question need not wait."""
        self._rounds = 0

    async def _run(self) -> None:
        try:
            if self._rounds:
                await asyncio.sleep(PAUSE.delay(self._rounds - 1, self._rng))
            self._rounds += 1
            await self._ask_around()
        except asyncio.CancelledError:
            if not self.stopped:  # from outside, as by the end of ``asyncio.run``
                self.stopped = True
                self._on_cancelled()
            raise
        finally:
            self._task = None

    async def _ask_around(self) -> None:
        errors: list[Exception] = []
        for address in self._candidates():
            try:
                view = await self._ask(address)
            except Exception as error:  # noqa: BLE001  # redis-py, DNS, credential providers
                logger.debug("no view of the cluster from %s:%d: %s", *address, error)
                errors.append(error)
                continue
            if view.ranges:
                self._failures = 0
                self._on_view(view)
                return
            errors.append(ConnectionError(f"{address.host}:{address.port} knows of no slots"))
        self._failures += 1
        lasting = [each for each in errors if lasts(each)]
        self._on_failed((lasting or errors)[0], len(lasting) < len(errors))

    def _candidates(self) -> list[Address]:
        """
        Return whom to ask, in any order but this: last whom we cannot reach ourselves, and
        before them those of the user's settings who are not in the cluster any more.
        """
        known, suspected = self._known(), self._suspected()
        candidates = list({*known, *self._nodes.startup})
        self._rng.shuffle(candidates)
        return sorted(candidates, key=lambda each: (each in suspected, each not in known))

    async def _ask(self, address: Address) -> View:
        async with asyncio.timeout(PATIENCE.delay(self._failures, self._rng)):
            connection = await open_connection(self._nodes.at(address))
            try:
                slots = await _reply(connection, "CLUSTER", "SLOTS")
                sharded = await _knows_sharding(connection)
            finally:
                await discard(connection)
        return View(read_ranges(slots, address, self._nodes.remap), sharded)

    def stop(self) -> None:
        """Ask no more."""
        self.stopped = True
        if self._task is not None:
            self._task.cancel()

    async def join(self) -> None:
        """Wait until nothing is under way."""
        task = self._task
        while task is not None and not task.done():
            # Again until it ends: redis-py may swallow a cancellation while connecting.
            task.cancel()
            await asyncio.wait([task], timeout=0.1)


async def _reply(connection: AbstractConnection, *command: str) -> Any:
    await connection.send_command(*command)
    return await connection.read_response(disable_decoding=True)


async def _knows_sharding(connection: AbstractConnection) -> bool:
    """Ask for the command itself: versions are numbered differently by Valkey and others."""
    try:
        reply = await _reply(connection, "COMMAND", "INFO", "SPUBLISH")
    except ResponseError:
        return True  # COMMAND is forbidden to us; SSUBSCRIBE will tell
    return bool(reply and reply[0])
