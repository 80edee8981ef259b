"""What listeners are told: the story of each acquisition, event by event.

Rules
-----
1. Every acquisition has a number of its own, and its story is one of these::

       Waiting, [HandedOver], Acquired, Renewed…, Released or Lost
       Waiting, Abandoned or Unavailable

   Of a lease that lingers ``Lingered`` follows behind ``Released``, which says so.  It comes
   before that, and only then, if somebody asked for the lease while it was held.

2. A listener hears of an acquisition from its ``Waiting`` to its end, or not at all, whenever
   it is added or removed.  So what it counts up it can count down.
3. Listeners are called one by one, synchronously, in the event loop of the lock: ``Waiting``
   in the context of the task that wants it, the others in any.  A slow one delays all locks.
4. What a listener raises is logged, the first time, and goes no further.

An event has no token, and nothing else that proves possession.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from aiodistlock.core.options import Kind


@dataclass(frozen=True, slots=True)
class LockEvent:
    """
    Base of all events, and something that happened to one acquisition of a lock.

    :ivar name: the name of the lock
    :ivar acquisition: number of the acquisition, unique in this process
    """

    name: str
    acquisition: int


@dataclass(frozen=True, slots=True)
class Waiting(LockEvent):
    """
    A task wants the lock; told in its context, also if the lock turns out to be free.

    :ivar timeout: seconds that it waits at most, ``None`` without end, 0 not at all
    :ivar kind: what for: a ``"lock"``, also one of several; a run of what is done ``"once"``; a
        term of an ``"election"``; permits of a ``"semaphore"``; to ``"read"``, or to ``"write"``.
        An upgrade is an acquisition to write, a downgrade one to read: the former one is released
    """

    timeout: float | None
    kind: Kind = "lock"


@dataclass(frozen=True, slots=True)
class HandedOver(LockEvent):
    """
    The lock passed on from another holder, without being free between.

    Told right before :class:`Acquired`.

    :ivar local: from a task of this process, in memory, also from one that reads on beside it;
        else from another process, by message.  (A quorum has no queue and so hands nothing over
        to other processes.)
    """

    local: bool


@dataclass(frozen=True, slots=True)
class Acquired(LockEvent):
    """
    The task has the lock.

    :ivar fencing_token: of its lease
    :ivar waited: seconds since :class:`Waiting`
    :ivar source: where the lease was got: at ``"redis"``, also where another process handed it
        over; from a ``"local"`` task that released it; or it was ``"lingering"`` here
    """

    fencing_token: int
    waited: float
    source: Literal["redis", "local", "lingering"] = "redis"


@dataclass(frozen=True, slots=True)
class Renewed(LockEvent):
    """
    Redis lets the lease go on.

    :ivar fencing_token: of the lease
    :ivar lag: seconds from the instant at which the renewal was due to its answer.  It is due
        when a third of the ttl is used up; when the user asks for it; and of a lease that
        another process handed over, which has only the claim window at first, at once
    :ivar waiters: processes that wait for the lock at Redis; on a quorum always 0
    """

    fencing_token: int
    lag: float
    waiters: int


@dataclass(frozen=True, slots=True)
class Lost(LockEvent):
    """
    The lease ended before its holder released it, or it came too late to do so.

    :ivar fencing_token: of the lost lease
    :ivar held: seconds since :class:`Acquired`
    :ivar reason: what ended the lease
    """

    fencing_token: int
    held: float
    reason: str


@dataclass(frozen=True, slots=True)
class Released(LockEvent):
    """
    The holder gave the lock up.

    :ivar fencing_token: of the lease that is over
    :ivar held: seconds from :class:`Acquired` until it was given up
    :ivar cause: why Redis did not confirm it, so that the key may stay until it expires;
        ``None`` if Redis did, or had not to be asked
    :ivar lingers: whether the lease stays with this process, and :class:`Lingered` follows
    """

    fencing_token: int
    held: float
    cause: Exception | None
    lingers: bool = False


@dataclass(frozen=True, slots=True)
class Lingered(LockEvent):
    """
    What came of a lease that lingered, or was to.

    :ivar fencing_token: of the acquisition
    :ivar outcome: a ``"hit"``: it was used again; a ``"miss"``: it was used no more; a
        ``"recall"``: somebody else asked for it, while it lingered or before its release
    """

    fencing_token: int
    outcome: Literal["hit", "miss", "recall"]


@dataclass(frozen=True, slots=True)
class Abandoned(LockEvent):
    """
    The task left without the lock.

    :ivar reason: its ``timeout`` was over; it only tried, and was refused; it was cancelled;
        the client was closed
    :ivar waited: seconds since :class:`Waiting`
    """

    reason: Literal["timeout", "refused", "cancelled", "closed"]
    waited: float


@dataclass(frozen=True, slots=True)
class Unavailable(LockEvent):
    """
    The task left without the lock: Redis did not answer, or refused to work.

    :ivar causes: one exception for each node
    :ivar waited: seconds since :class:`Waiting`
    """

    causes: tuple[Exception, ...]
    waited: float


class Listener(Protocol):
    """Any callable that takes an event; what it returns is ignored."""

    def __call__(self, event: LockEvent, /) -> object:
        """Take note of an event, quickly: the event loop waits meanwhile."""
        ...
