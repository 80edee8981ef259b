"""What a process knows of who leads an election, for all its observers together.

Rules
-----
1. It asks once it begins, whenever a change is announced, and whenever something may have
   been missed: announcements are heard from now on, or a slot is at another primary.
2. A leader that dies announces nothing.  So it asks, too, when the lease that it was told of
   must be over, unless it was renewed; and now and then while nobody leads, or while no
   announcement would be heard.
3. One question at a time.  What comes while one is under way has it ask once more: the answer
   may be from before.
4. Of what changed meanwhile observers get the latest only.  While Redis is silent, nothing.
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any, cast

from aiodistlock.core.backoff import Backoff
from aiodistlock.core.clock import Timers
from aiodistlock.core.keys import LockKeys
from aiodistlock.errors import LockError, StoreUnavailable
from aiodistlock.protocol.answers import Failed, LeaderReply, Led
from aiodistlock.protocol.call import Call
from aiodistlock.protocol.store import ElectionStore, Store

LOOK_EVERY = 5.0
"""Seconds between two questions at most: for announcements that were lost."""

POLL_EVERY = 1.0
"""The same while no announcement is heard."""

_AFTER_FAILURE = Backoff()


class Observation:
    """
    Observes one election from the first observer to the last.

    :param store: of the client, whose connection it shares
    :param beside: the client's observations, by the channel of their announcements
    """

    def __init__(
        self,
        keys: LockKeys,
        store: Store,
        beside: dict[bytes, Observation],
        timers: Timers,
        rng: Random,
    ) -> None:
        self.keys = keys
        self.led: Led | None = None
        """The latest answer; ``None`` before the first."""
        self._store = cast("ElectionStore", store)
        self._beside = beside
        self._timers = timers
        self._rng = rng
        self._loop = asyncio.get_running_loop()
        self._observers = 0
        self._news: set[asyncio.Future[None]] = set()
        """Of observers who wait."""
        self._problem: LockError | None = None
        self._call: Call[LeaderReply] | None = None
        self._again = False
        self._failures = 0
        self._timer: Any = None

    def enter(self) -> None:
        """Let another observer in; the first one has it begin."""
        self._observers += 1
        if self._observers == 1:
            self._beside[self.keys.proclamation] = self
            self.ask()

    def leave(self) -> None:
        """Let an observer go; the last one has it end."""
        self._observers -= 1
        if self._observers == 0:
            self._stop()

    def _stop(self) -> None:
        if self._beside.get(self.keys.proclamation) is self:
            del self._beside[self.keys.proclamation]
        self._cancel_timer()
        if self._call is not None:
            self._call.obsolete = True

    def close(self, problem: str) -> None:
        """Tell all observers that nothing more will be heard."""
        self._end(LockError(self.keys.name, problem))

    def _end(self, problem: LockError) -> None:
        self._problem = problem
        self._stop()
        self._tell()

    def _tell(self) -> None:
        for future in self._news:
            if not future.done():
                future.set_result(None)

    async def other_than(self, seen: Led | None) -> Led:
        """
        Wait until it is known who leads, and that is another than was seen.

        Cancelled here, nothing has changed.

        :raises LockError: if the client was closed
        :raises StoreUnavailable: if Redis refuses to tell
        """
        while self.led is None or (seen is not None and _same(self.led, seen)):
            if self._problem is not None:
                raise self._problem
            future: asyncio.Future[None] = self._loop.create_future()
            self._news.add(future)
            try:
                await future
            finally:
                self._news.discard(future)
        return self.led

    def ask(self) -> None:
        """Ask who leads."""
        if self._problem is not None or self._observers == 0:
            return
        self._cancel_timer()
        # Before the question: what changes behind its answer must be heard.
        self._store.hear_leaders(self.keys)
        if self._call is not None:
            self._again = True
            return
        self._again = False
        self._call = self._store.leader(self.keys)
        self._call.tell(self._answered)

    def _answered(self, reply: LeaderReply) -> None:
        self._call = None
        if self._problem is not None or self._observers == 0:
            return
        if isinstance(reply, Failed):
            self._failed(reply)
            return
        self._failures = 0
        news = self.led is None or not _same(reply, self.led)
        self.led = reply
        if news:
            self._tell()
        if self._again:
            self.ask()
        else:
            self._look_again(self._pause(reply))

    def _failed(self, failed: Failed) -> None:
        if not failed.transient:
            self._end(StoreUnavailable(self.keys.name, failed.causes))
            return
        self._look_again(_AFTER_FAILURE.delay(self._failures, self._rng))
        self._failures += 1

    def _pause(self, led: Led) -> float:
        """Return after how many seconds to ask without having heard anything."""
        # What remains is believed no longer than that: the server's clock may be set meanwhile.
        pause = LOOK_EVERY if led.remaining is None else min(led.remaining, LOOK_EVERY)
        if not self._store.hear_leaders(self.keys):
            pause = min(pause, POLL_EVERY)
        # Not all processes in the same instant.
        return pause + 0.005 + 0.045 * self._rng.random()

    def _look_again(self, pause: float) -> None:
        self._cancel_timer()
        self._timer = self._timers.call_later(pause, self.ask)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _same(one: Led, other: Led) -> bool:
    """Tell whether two answers name the same leader, who proclaims the same."""
    return one._replace(remaining=None) == other._replace(remaining=None)
