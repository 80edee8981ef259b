"""What all contenders of one client share."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from random import Random
from threading import get_ident
from typing import Any, Generic, Protocol, TypeVar
from weakref import WeakSet, WeakValueDictionary

from aiodistlock.core.clock import Clock, ClockWithTimers, Timers, local_clock
from aiodistlock.core.options import ClientOptions
from aiodistlock.core.thread_lock import thread_lock
from aiodistlock.errors import LockError
from aiodistlock.events.listeners import Listeners
from aiodistlock.leases.process_lease import Holder, Possessor, ProcessLease
from aiodistlock.leases.shared_lease import Share
from aiodistlock.leases.watchdog import Watchdog
from aiodistlock.protocol.connection import Connection
from aiodistlock.protocol.store import Store
from aiodistlock.waiting.checkpoint import Checkpoint
from aiodistlock.waiting.lingering_leases import LingeringLeases
from aiodistlock.waiting.observation import Observation

A = TypeVar("A")

_states: WeakSet[ClientState[Any]] = WeakSet()


def _mark_forked() -> None:
    for state in _states:
        state.forked = True
        connection = getattr(state, "connection", None)
        if connection is not None:
            connection.disown()


os.register_at_fork(after_in_child=_mark_forked)


class Proclaimer(Protocol):
    """Who proclaims something to observers while it leads."""

    def take_back(self) -> None:
        """Have what was proclaimed not outlast the lease that is released now."""
        ...


class ClientState(Generic[A]):
    """
    What all contenders of one client share, in one event loop; of type ``A`` are its attempts.

    :param client_id: opens every token: label or host, pid, random
    :param clock: what leases and pauses go by; ``None``: the machine's, and the loop's timers
    """

    store: Store
    connection: Connection
    watchdog: Watchdog
    _contenders: Mapping[bytes, Possessor]

    def __init__(
        self, client_id: str, options: ClientOptions, clock: ClockWithTimers | None, rng: Random
    ) -> None:
        self.options = options
        self.rng = rng
        self.loop = asyncio.get_running_loop()
        self._thread = get_ident()
        self.clock: Clock = clock or local_clock
        self.timers: Timers = clock or self.loop
        self.attempts: dict[bytes, A] = {}
        """Attempts that a grant may still name, by token."""
        self.holders: dict[bytes, ProcessLease] = {}
        """
        The lease on each key that somebody here holds, and of a semaphore's, several of them, by
        their tokens besides; its client's engines share it.
        """
        self.reading: dict[tuple[bytes, asyncio.Task[Any] | None], list[Share]] = {}
        """What each task reads by, by key and task, the innermost last."""
        self.let_go: WeakValueDictionary[bytes, Holder] = WeakValueDictionary()
        """Who has a lock by a token alone, unwatched, or a lost one to give back, by token."""
        self.all_watched = True
        """Whether none of our tokens was given away, to be released by whoever has it."""
        self.on_quorum = False
        """Whether the store is several nodes, of which a majority decides."""
        self.listeners = Listeners()
        self.lingering = LingeringLeases(self.clock, self.timers)
        """The released leases that stay with this process."""
        self.observations: dict[bytes, Observation] = {}
        """Of the elections that are observed here, by the channel of their announcements."""
        self.proclaimers: WeakValueDictionary[bytes, Proclaimer] = WeakValueDictionary()
        """Who proclaims something here, by the token of its lease."""
        self.checkpoint = Checkpoint(self.clock, self.loop)
        self.closed = False
        self.forked = False
        self.token_prefix = client_id.encode() + b":"
        self._token_count = 0
        with thread_lock:
            _states.add(self)

    def next_token(self) -> bytes:
        """Return a token that no acquisition had before."""
        self._token_count += 1
        return b"%s%d" % (self.token_prefix, self._token_count)

    def next_lingering_token(self) -> bytes:
        """Return one whose lease may linger: others know it by the 0 before its count."""
        self._token_count += 1
        return b"%s0%d" % (self.token_prefix, self._token_count)

    def holds(self, key: bytes, token: bytes) -> bool:
        """Tell whether a token at a key is of a lease or an attempt of ours that goes on."""
        held, contender = self.holders.get(key), self._contenders.get(key)
        lease = None if contender is None else contender.process_lease
        return (
            token in self.attempts
            or token in self.let_go
            or (held is not None and held.token == token)
            or (lease is not None and lease.token == token)
            # Besides one that the server has let go, and whose holder has not heard of it yet.
            or any(each.token == token for each in self.watchdog.leases())
        )

    def forget_holder(self, lease: ProcessLease) -> None:
        """Take note that nobody here holds a lease any more."""
        holders, held_as = self.holders, lease.held_as
        if holders.get(held_as) is lease:
            del holders[held_as]

    def task_here(self) -> asyncio.Task[Any] | None:
        """
        Return the task that runs now, if that is one of this event loop, and locks can be used.

        ``None`` leaves it open.  ``asyncio.get_running_loop`` would know, but on Python 3.11
        it asks the system for the process id each time, which is 2 % of an acquisition.
        """
        if self.closed or self.forked or get_ident() != self._thread or self.connection.stopped:
            return None
        return asyncio.current_task(self.loop)

    def check(self, name: str) -> None:
        """
        Check that locks can be used here and now.

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
