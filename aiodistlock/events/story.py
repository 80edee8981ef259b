"""The story of one acquisition, told to those who listen.

Nobody listens as a rule: then there is no story, and whoever has something to tell finds
``None`` in its place.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Literal

from aiodistlock.core.clock import Clock
from aiodistlock.core.options import Kind
from aiodistlock.errors import AcquireTimeout, StoreUnavailable
from aiodistlock.events.events import (
    Abandoned,
    Acquired,
    HandedOver,
    Lingered,
    LockEvent,
    Lost,
    Released,
    Renewed,
    Unavailable,
    Waiting,
)
from aiodistlock.protocol.answers import Done, Failed, NotOurs, ReleaseReply
from aiodistlock.protocol.call import Call

_numbers = count(1)


class Story:
    """
    Tells what happens to one acquisition, until it is over.

    :param listeners: called with each event, to the end, whoever else begins to listen
    :param timeout: seconds that the task waits at most, ``None`` without end
    :param kind: what the lease is for
    """

    __slots__ = (
        "_acquired_at",
        "_began_at",
        "_clock",
        "_due_at",
        "_fence",
        "_listeners",
        "_local",
        "_name",
        "_number",
        "_over",
        "_settled_at",
    )

    def __init__(
        self,
        listeners: tuple[Callable[[LockEvent], object], ...],
        name: str,
        timeout: float | None,
        clock: Clock,
        kind: Kind = "lock",
    ) -> None:
        self._listeners = listeners
        self._name = name
        self._number = next(_numbers)
        self._clock = clock
        self._began_at = self._acquired_at = self._settled_at = clock()
        self._fence = 0
        self._local: bool | None = None
        self._due_at: float | None = None
        self._over = False
        self._tell(Waiting(name, self._number, timeout, kind))

    def _tell(self, event: LockEvent) -> None:
        for listener in self._listeners:
            listener(event)

    def comes_from_another(self, *, local: bool) -> None:
        """Take note that another holder passes the lock on: a task of this process, or not."""
        self._local = local

    def acquired(self, fence: int, *, handed_over: bool = False, lingered: bool = False) -> None:
        """
        Tell that the task has the lock, and how it came to it.

        :param handed_over: by another task of this process
        :param lingered: it was used again, without asking Redis
        """
        if handed_over:
            self._local = True
        self._acquired_at = self._settled_at = self._clock()
        self._fence = fence
        if self._local is not None:
            self._tell(HandedOver(self._name, self._number, self._local))
        waited = self._acquired_at - self._began_at
        source: Literal["redis", "local", "lingering"] = "local" if self._local else "redis"
        if lingered:
            source = "lingering"
        self._tell(Acquired(self._name, self._number, fence, waited, source))

    def renewal_due(self, due_at: float) -> None:
        """
        Take note of a renewal that should be sent at a local instant.

        That may lie before the lease: one that has only its claim window, or that the user
        shortened, is one whose renewal was due long since.  It is due from when it is ours.
        """
        if self._due_at is None:
            self._due_at = max(due_at, self._settled_at)

    def renewed(self, waiters: int) -> None:
        """Tell that Redis lets the lease go on."""
        now = self._clock()
        due_at, self._due_at = self._due_at, None
        # One that the former holder's lease was sent is due from when it is ours, too.
        lag = now - (self._settled_at if due_at is None else due_at)
        self._settled_at = now
        self._tell(Renewed(self._name, self._number, self._fence, lag, waiters))

    def lost(self, reason: str) -> None:
        """Tell that the lease is lost."""
        self._end_of_lease(self._held(), NotOurs(reason))

    def released(self, call: Call[ReleaseReply] | None = None, *, lingers: bool = False) -> None:
        """
        Tell that the holder gave the lock up.

        :param call: the request that says so to Redis, whose answer is waited for: it may
            show that the lease was lost
        :param lingers: whether the lease stays; what comes of that is told later
        """
        held = self._held()
        if call is None:
            self._end_of_lease(held, Done(), lingers=lingers)
            return

        def answered(reply: ReleaseReply) -> None:
            # An earlier copy of the request may have done it, and its answer was lost.
            done = isinstance(reply, NotOurs) and call.resent
            self._end_of_lease(held, Done() if done else reply)

        call.tell(answered)

    def lingered(self, outcome: Literal["hit", "miss", "recall"]) -> None:
        """Tell what came of a lease that lingered, or was to."""
        self._tell(Lingered(self._name, self._number, self._fence, outcome))

    def _held(self) -> float:
        return self._clock() - self._acquired_at

    def _end_of_lease(self, held: float, reply: ReleaseReply, *, lingers: bool = False) -> None:
        if self._over:
            return
        self._over = True
        if isinstance(reply, NotOurs):
            self._tell(Lost(self._name, self._number, self._fence, held, reply.reason))
        else:
            cause = reply.cause if isinstance(reply, Failed) else None
            self._tell(Released(self._name, self._number, self._fence, held, cause, lingers))

    def abandoned(self, reason: Literal["timeout", "refused", "cancelled", "closed"]) -> None:
        """Tell that the task left without the lock."""
        self._tell(Abandoned(self._name, self._number, reason, self._clock() - self._began_at))

    def failed(self, error: Exception) -> None:
        """Tell that the wait was ended by an error."""
        if isinstance(error, StoreUnavailable):
            waited = self._clock() - self._began_at
            self._tell(Unavailable(self._name, self._number, error.causes, waited))
        else:
            self.abandoned("timeout" if isinstance(error, AcquireTimeout) else "closed")
