"""The contenders of one client, and what they are told by its store."""

from __future__ import annotations

import logging
from collections.abc import Callable
from random import Random
from typing import cast
from weakref import WeakValueDictionary

from aiodistlock.core.background import is_thrown_away
from aiodistlock.core.clock import ClockWithTimers
from aiodistlock.core.keys import LockKeys
from aiodistlock.core.options import ClientOptions
from aiodistlock.leases.watchdog import Watchdog
from aiodistlock.protocol.grant_message import OtherWire, Recall
from aiodistlock.protocol.store import Store
from aiodistlock.waiting.attempt import Attempt, Contending
from aiodistlock.waiting.client_state import ClientState
from aiodistlock.waiting.contender import Contender
from aiodistlock.waiting.grant_delivery import Delivery
from aiodistlock.waiting.observation import Observation
from aiodistlock.waiting.permit_contender import PermitContender
from aiodistlock.waiting.reading import ReadContender
from aiodistlock.waiting.writing import WriteContender

logger = logging.getLogger("aiodistlock")


class Engine(ClientState[Attempt]):
    """Contends for names on one store, in one event loop; the store's ``Owner``."""

    def __init__(
        self, client_id: str, options: ClientOptions, clock: ClockWithTimers | None, rng: Random
    ) -> None:
        super().__init__(client_id, options, clock, rng)
        self._contenders: WeakValueDictionary[bytes, Contender] = WeakValueDictionary()
        self._semaphores: WeakValueDictionary[tuple[bytes, int], PermitContender] = (
            WeakValueDictionary()
        )
        self.delivery = Delivery(self)
        """Takes the grants that arrive for attempts."""
        self.on_grant = self.delivery.on_grant
        self.on_unacknowledged_grant = self.delivery.on_unacknowledged_grant
        self.on_hint = self.delivery.on_hint
        self._told_other_wire = False

    def start(self, store: Store) -> None:
        """Work on ``store`` from now on."""
        self.store, self.connection = store, store.connection
        self.watchdog = Watchdog(store, self.clock, self.timers)

    def contender(self, keys: LockKeys) -> Contender:
        """Return this process's contender for a name."""
        contender = self._contenders.get(keys.key)
        if contender is None:
            contender = self._contenders[keys.key] = Contender(self, keys)
        return contender

    def permit_contender(self, keys: LockKeys, limit: int) -> PermitContender:
        """Return this process's contender for a semaphore, of those that go by a limit."""
        contender = self._semaphores.get((keys.key, limit))
        if contender is None:
            contender = self._semaphores[keys.key, limit] = PermitContender(self, keys)
        return contender

    def reader(self, keys: LockKeys) -> ReadContender:
        """Return this process's contender for reading a name."""
        contender = self._contenders.get(keys.readers)
        if contender is None:
            contender = self._contenders[keys.readers] = ReadContender(self, keys)
        return cast("ReadContender", contender)

    def writer(self, keys: LockKeys) -> WriteContender:
        """Return this process's contender for writing what others read."""
        contender = self._contenders.get(keys.version)
        if contender is None:
            contender = self._contenders[keys.version] = WriteContender(self, keys)
        return cast("WriteContender", contender)

    def observation(self, keys: LockKeys) -> Observation:
        """Return what this process knows of who leads, for its observers."""
        known = self.observations.get(keys.proclamation)
        if known is not None:
            return known
        return Observation(keys, self.store, self.observations, self.timers, self.rng)

    def on_connected(self) -> None:
        """Check all leases: this may be another server than before."""
        self.lingering.end()
        self.watchdog.recheck()

    def on_announced(self, channel: bytes) -> None:
        """Ask who leads, for those who observe that."""
        if (observation := self.observations.get(channel)) is not None:
            observation.ask()

    def on_listening(self) -> None:
        """Have all waiters ask again: a grant may have been missed; or a recall."""
        self.lingering.end()
        for attempt in list(self.attempts.values()):
            attempt.ask_again()

    def on_recall(self, recall: Recall) -> None:
        """Have the lease that others ask for not linger."""
        contender = self._contenders.get(recall.key)
        if contender is not None:
            contender.recalled(recall.token)

    def on_other_wire(self, other: OtherWire) -> None:
        """Have all waiters ask: one of them may hold the lock now, and its answer tells."""
        if not self._told_other_wire:
            self._told_other_wire = True
            logger.warning("%s: waiters ask instead; have all processes use one version", other)
        for attempt in list(self.attempts.values()):
            attempt.on_moved()  # once more where a request is under way: it may have come before

    def on_moved(self, moved: Callable[[LockKeys], bool]) -> None:
        """Check the leases and repeat the requests whose keys another server has now."""
        self.lingering.end(moved)
        self.watchdog.recheck(lambda lease: moved(lease.keys))
        for attempt in list(self.attempts.values()):
            if moved(attempt.keys):
                attempt.on_moved()
        for observation in list(self.observations.values()):
            if moved(observation.keys):
                observation.ask()

    def contenders(self) -> set[Contending]:
        """Return who contends now: shared ones, and those of a single task."""
        shared = {*self._contenders.values(), *self._semaphores.values()}
        return {*shared, *(each.contender for each in self.attempts.values())}

    def waited_for(self) -> list[LockKeys]:
        """Return the keys of which this process must hear: it waits, observes, or lets linger."""
        waits = [attempt.keys for attempt in self.attempts.values()]
        observed = [each.keys for each in self.observations.values()]
        return [*waits, *observed, *self.lingering.keys()]

    def busy(self) -> bool:
        """Whether anybody holds, waits or observes, or a lease lingers: a loss is missed then."""
        return bool(self.attempts or self.holders or self.lingering or self.observations)

    async def aclose(self) -> None:
        """
        End all waits and leases, wait for that within a bound, close the connections.

        Cancelled here, what is unsent is dropped; its keys expire by their ttl.
        """
        self._end("its LockClient was closed")
        try:
            await self.connection.aclose()
            await self.watchdog.join()
        finally:
            if not is_thrown_away(self.loop):
                self.stop()

    def _end(self, problem: str) -> None:
        self.closed = True
        for attempt in list(self.attempts.values()):
            attempt.contender.close(problem)
        for lease in self.watchdog.leases():
            lease.possessor.close(problem)
        for proclaimer in list(self.proclaimers.values()):
            proclaimer.take_back()
        for observation in list(self.observations.values()):
            observation.close(problem)
        self.watchdog.stop()
        self.lingering.stop()

    def stop(self) -> None:
        """Close everything at once, without waiting."""
        if not self.closed:
            self._end("its Redis client is gone")
        self.connection.stop()
