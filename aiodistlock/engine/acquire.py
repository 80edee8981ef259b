"""What all contenders of one client share, and the wait of a task for its turn."""

from __future__ import annotations

import asyncio
import logging
import math
import os
from collections.abc import Callable
from random import Random
from threading import get_ident
from typing import Any, TypeVar
from weakref import WeakSet, WeakValueDictionary

from aiodistlock.core.clock import Clock, ClockWithTimers, ServerClock, Timers, local_clock
from aiodistlock.core.keys import LockKeys
from aiodistlock.core.options import ClientOptions, LockOptions
from aiodistlock.engine.attempt import Attempt
from aiodistlock.engine.audience import Audience
from aiodistlock.engine.cleanup import settled
from aiodistlock.engine.contender import Contender
from aiodistlock.engine.inbox import Grant
from aiodistlock.engine.process_lease import Holder, ProcessLease
from aiodistlock.engine.story import Story
from aiodistlock.engine.story_log import log_event
from aiodistlock.engine.waiter import Waiter
from aiodistlock.engine.watchdog import Watchdog
from aiodistlock.errors import LockError
from aiodistlock.stores.base import Call, Store

logger = logging.getLogger("aiodistlock")

H = TypeVar("H", bound=Holder)

_engines: WeakSet[Engine] = WeakSet()


def _mark_forked() -> None:
    for engine in _engines:
        engine.forked = True
        store = getattr(engine, "store", None)
        if store is not None:
            store.disown()


os.register_at_fork(after_in_child=_mark_forked)


class Engine:
    """
    Contends for names on one store, in one event loop.

    :param client_id: opens every token: label or host, pid, random
    :param clock: what leases and pauses go by; ``None``: the machine's, and the loop's timers
    """

    def __init__(
        self, client_id: str, options: ClientOptions, clock: ClockWithTimers | None, rng: Random
    ) -> None:
        self.options = options
        self.rng = rng
        self.loop = asyncio.get_running_loop()
        self._thread = get_ident()
        self.clock: Clock = clock or local_clock
        self.timers: Timers = clock or self.loop
        self.attempts: dict[bytes, Attempt] = {}
        """Attempts that a grant may still name, by token."""
        self.holders: dict[bytes, Holder] = {}
        """The local holder of each key that this process holds; its client's engines share it."""
        self.let_go: WeakValueDictionary[bytes, Holder] = WeakValueDictionary()
        """Who has a lock by a token alone, unwatched, or a lost one to give back, by token."""
        self.all_watched = True
        """Whether none of our tokens was given away, to be released by whoever has it."""
        self.longest_ttl = math.inf
        """Seconds to which a lease may be extended at most, as the store can bear it."""
        self.audience = Audience()
        self.closed = False
        self.forked = False
        self.store: Store
        self.watchdog: Watchdog
        self._contenders: WeakValueDictionary[bytes, Contender] = WeakValueDictionary()
        self.token_prefix = client_id.encode() + b":"
        self._token_count = 0
        _engines.add(self)

    def start(self, store: Store) -> None:
        """Work on ``store`` from now on."""
        self.store = store
        self.watchdog = Watchdog(store, self.clock, self.timers, self._on_lost)

    def next_token(self) -> bytes:
        """Return a token that no acquisition had before."""
        self._token_count += 1
        return b"%s%d" % (self.token_prefix, self._token_count)

    def contender(self, keys: LockKeys) -> Contender:
        """Return this process's contender for a name."""
        contender = self._contenders.get(keys.key)
        if contender is None:
            contender = self._contenders[keys.key] = Contender(self, keys)
        return contender

    def on_grant(self, grant: Grant, server_clock: ServerClock) -> None:
        """
        Route a grant to the attempt that waits for it.

        :param server_clock: of the server that granted it
        """
        attempt = self.attempts.get(grant.token)
        if attempt is not None:
            attempt.on_grant(grant, server_clock)
        elif not self.holds(grant.key, grant.token):
            # Granted to somebody who has left; its abandon may be on its way already.
            # (If we hold that very token, a reply was faster than the message.)
            try:
                keys = LockKeys(grant.key.decode(), namespace="")
            except ValueError:  # no grant of ours: anybody may publish
                logger.warning("grant of a key that cannot be a lock: %.100r", grant.key)
                return
            self.store.abandon(keys, grant.token, None)

    def on_unacknowledged_grant(self, grant: Grant, server_clock: ServerClock) -> None:
        """
        Have the attempt ask for what it was granted, and so for the acknowledgement.

        Another client wrote the grant, and waited for nothing.
        """
        attempt = self.attempts.get(grant.token)
        if attempt is None:
            self.on_grant(grant, server_clock)
        else:
            attempt.on_unacknowledged_grant()

    def holds(self, key: bytes, token: bytes) -> bool:
        """Tell whether a token at a key is of a lease or an attempt of ours that goes on."""
        holder, contender = self.holders.get(key), self._contenders.get(key)
        lease = None if contender is None else contender.process_lease
        return (
            token in self.attempts
            or token in self.let_go
            or (holder is not None and holder.token.encode() == token)
            or (lease is not None and lease.token == token)
        )

    def on_connected(self) -> None:
        """Check all leases: this may be another server than before."""
        self.watchdog.recheck()

    def on_listening(self) -> None:
        """Have all waiters ask again: a grant may have been missed."""
        for attempt in list(self.attempts.values()):
            attempt.ask_again()

    def on_moved(self, moved: Callable[[LockKeys], bool]) -> None:
        """Check the leases and repeat the requests whose keys another server has now."""
        self.watchdog.recheck(lambda lease: moved(lease.contender.keys))
        for attempt in list(self.attempts.values()):
            if moved(attempt.contender.keys):
                attempt.on_moved()

    def waited_for(self) -> list[LockKeys]:
        """Return the keys that this process waits for at Redis."""
        return [attempt.contender.keys for attempt in self.attempts.values()]

    def busy(self) -> bool:
        """Whether anybody holds or waits, so that a lost connection is missed."""
        return bool(self.attempts or self.holders)

    def _on_lost(self, lease: ProcessLease, reason: str) -> None:
        lease.contender.on_lost(lease, reason)

    @property
    def usable(self) -> bool:
        """Whether the engine can be used, in its own event loop."""
        return not (self.closed or self.forked or self.store.stopped)

    def task_here(self) -> asyncio.Task[Any] | None:
        """
        Return the task that runs now, if that can be told to be one of this engine's loop.

        ``None`` leaves it open.  ``asyncio.get_running_loop`` would know, but on Python 3.11
        it asks the system for the process id each time, which is 2 % of an acquisition.
        """
        return asyncio.current_task(self.loop) if get_ident() == self._thread else None

    def check(self, name: str) -> None:
        """
        Check that the engine can be used here and now.

        :raises LockError: after close, after fork, or in another event loop
        """
        if self.forked:
            raise LockError(
                name, "its LockClient was made before os.fork(); make a new one in the child"
            )
        if self.closed:
            raise LockError(name, "its LockClient is closed; open a new one")
        if self.loop is not asyncio.get_running_loop():
            raise LockError(
                name,
                "its LockClient belongs to another event loop"
                f"{' that is closed' if self.loop.is_closed() else ''}; use one client per loop",
            )

    async def acquire(  # noqa: PLR0917  # runs for every lease, and keywords cost
        self,
        contender: Contender,
        options: LockOptions,
        make_holder: Callable[[ProcessLease, int, Waiter], H],
        owner: object,
        task: asyncio.Task[Any] | None,
        timeout: float | None,
    ) -> H | None:
        """
        Wait for the lock; ``None`` only if the caller does not wait.

        Cancelled here, the task leaves; if it was the last one, what it asked for is
        undone, which takes at most ``CLEANUP_WITHIN``.

        :raises AcquireTimeout: if ``timeout`` seconds have passed
        :raises StoreUnavailable: if Redis was unavailable for too long
        """
        # What make_holder built is what the future gets: Any, for mypy.
        future: asyncio.Future[Any] = asyncio.Future(loop=self.loop)
        story = None
        if self.audience.ears or logger.isEnabledFor(logging.DEBUG):
            story = self._begin_story(contender.keys.name, timeout)
        contender.enter(
            waiter := Waiter(future, options, make_holder, task, owner, timeout != 0, story)
        )
        timer = None
        if timeout:
            timer = self.timers.call_later(timeout, contender.expire, waiter, timeout)
        try:
            holder: H | None = await future
        except asyncio.CancelledError:
            cleanup = self._leave(contender, waiter)
            if cleanup is not None:
                await settled(cleanup)
            raise
        finally:
            if timer is not None:
                timer.cancel()
        return holder

    def _begin_story(self, name: str, timeout: float | None) -> Story:
        # The log is asked each time: its level may be changed while the program runs.
        logs = (log_event,) if logger.isEnabledFor(logging.DEBUG) else ()
        return Story((*logs, *self.audience.ears), name, timeout, self.clock)

    def _leave(self, contender: Contender, waiter: Waiter) -> Call[Any] | None:
        future = waiter.future
        if future.cancelled():
            if waiter.story is not None:
                waiter.story.abandoned("cancelled")
            return contender.leave()
        # The turn came, or an error, in the very loop turn of the cancellation.
        if future.exception() is not None:
            return None
        holder = future.result()
        return None if holder is None else holder.give_back()

    async def aclose(self) -> None:
        """
        End all waits and leases, wait for that within a bound, close the connections.

        Cancelled here, what is unsent is dropped; its keys expire by their ttl.
        """
        self._end("its LockClient was closed")
        try:
            await self.store.aclose()
        finally:
            self.stop()

    def _end(self, problem: str) -> None:
        self.closed = True
        contenders = [attempt.contender for attempt in self.attempts.values()]
        contenders += [lease.contender for lease in self.watchdog.leases()]
        for contender in contenders:
            contender.close(problem)
        self.watchdog.stop()

    def stop(self) -> None:
        """Close everything at once, without waiting."""
        if not self.closed:
            self._end("its Redis client is gone")
        self.store.stop()
