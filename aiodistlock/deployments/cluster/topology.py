"""Asking the nodes of a cluster who owns which slots."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from redis.exceptions import ResponseError

from aiodistlock.connection.exchange import exchange
from aiodistlock.connection.handshake import Handshake
from aiodistlock.connection.opening import Fault, lasts, open_connection
from aiodistlock.core.background import end_task, start_task
from aiodistlock.core.backoff import Backoff
from aiodistlock.core.escaping import described
from aiodistlock.core.slots import Address, SlotRange, read_ranges
from aiodistlock.deployments.cluster.members import Members

logger = logging.getLogger("aiodistlock")

PAUSE = Backoff(initial=0.1, factor=1.5, cap=1.0, jitter=0.5)
"""Between two rounds in a row; jittered, since all clients miss a node at once."""

PATIENCE = Backoff(initial=1.0, factor=2.0, cap=10.0, jitter=0.0)
"""How long one node may take to answer: a frozen one must not keep us from the next."""


_QUESTIONS = (
    (b"CLUSTER", b"SLOTS"),
    # The command itself: versions are numbered differently by Valkey and others.
    (b"COMMAND", b"INFO", b"SPUBLISH"),
)


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
    :param patience: seconds after which a call without an answer fails
    """

    def __init__(
        self,
        members: Members,
        rng: Random,
        *,
        known: Callable[[], frozenset[Address]],
        suspected: Callable[[], set[Address]],
        on_view: Callable[[View], object],
        on_failed: Callable[[Exception, bool], object],
        on_cancelled: Callable[[], object],
        patience: float,
    ) -> None:
        self._pauses = PAUSE.within(patience)
        self._members = members
        self._handshake = Handshake()
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
            self._task = start_task(self._run(), "aiodistlock topology")

    def calm(self) -> None:
        """Take note that there is no trouble: the next question need not wait."""
        self._rounds = 0

    async def _run(self) -> None:
        try:
            if self._rounds:
                await asyncio.sleep(self._pauses.delay(self._rounds - 1, self._rng))
            self._rounds += 1
            await self._ask_around()
        except asyncio.CancelledError:
            if not self.stopped:  # from outside, as by the end of ``asyncio.run``
                self.stopped = True
                self._on_cancelled()
            raise
        except Exception as error:  # noqa: BLE001  # or nobody would hear of it
            self._on_failed(Fault(error), False)
        finally:
            self._task = None

    async def _ask_around(self) -> None:
        errors: list[Exception] = []
        for address in self._candidates():
            try:
                view = await self._ask(address)
            except Exception as error:  # noqa: BLE001  # redis-py, DNS, credential providers
                logger.debug("no view of the cluster from %s:%d: %s", *address, described(error))
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
        candidates = list({*known, *self._members.startup})
        self._rng.shuffle(candidates)
        return sorted(candidates, key=lambda each: (each in suspected, each not in known))

    async def _ask(self, address: Address) -> View:
        async with asyncio.timeout(PATIENCE.delay(self._failures, self._rng)):
            connection = await open_connection(self._members.at(address), handshake=self._handshake)
            slots, spublish = await exchange(connection, *_QUESTIONS)
        if isinstance(slots, ResponseError):
            raise slots
        # COMMAND may be forbidden to us, or unknown: then SSUBSCRIBE will tell.
        sharded = isinstance(spublish, Exception) or bool(spublish and spublish[0])
        return View(read_ranges(slots, address, self._members.remap), sharded)

    def stop(self) -> None:
        """Ask no more."""
        self.stopped = True
        if self._task is not None:
            self._task.cancel()

    async def join(self) -> None:
        """Wait until nothing is under way."""
        await end_task(self._task)
