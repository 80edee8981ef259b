"""Options of locks as keyword arguments, for type checkers and editors.

What passes options on takes ``**options: Unpack[LockKeywords]``.  The options themselves,
with their defaults and what they do, are :class:`~aiodistlock.AsyncLock`'s.
"""

from __future__ import annotations

from typing import Literal, TypedDict

from aiodistlock.core.backoff import Backoff
from aiodistlock.core.durations import Duration


class UntimedLockKeywords(TypedDict, total=False):
    """Options of a lock, for what has a ``timeout`` of its own."""

    ttl: Duration
    auto_renew: bool
    max_hold: Duration | None
    on_lost: Literal["cancel", "signal"]
    local_handoffs: int
    backoff: Backoff | None
    namespace: str
    reentrant: bool
    ack: str
    linger: Duration | Literal["auto"]


class LockKeywords(UntimedLockKeywords, total=False):
    """Options of a lock."""

    timeout: Duration | None


class OnceKeywords(TypedDict, total=False):
    """Options of what is done once a window, which are :class:`~aiodistlock.Once`'s."""

    every: Duration | None
    at_least: Duration | None
    on_crash: Literal["retry", "skip"]
    ttl: Duration
    timeout: Duration | None
    max_hold: Duration | None
    on_lost: Literal["cancel", "signal"]
    remember: Duration | None
    namespace: str


class ReadWriteKeywords(TypedDict, total=False):
    """Options of a read/write lock, which are :class:`~aiodistlock.ReadWriteLock`'s."""

    ttl: Duration
    timeout: Duration | None
    on_lost: Literal["cancel", "signal"]
    local_handoffs: int
    backoff: Backoff | None
    namespace: str


class ElectionKeywords(TypedDict, total=False):
    """Options of an election, besides what its leader proclaims."""

    ttl: Duration
    backoff: Backoff | None
    namespace: str
    ack: str


class UntimedSemaphoreKeywords(TypedDict, total=False):
    """Options of a semaphore, besides its limit, for what has a ``timeout`` of its own."""

    ttl: Duration
    max_hold: Duration | None
    on_lost: Literal["cancel", "signal"]
    backoff: Backoff | None
    namespace: str


class SemaphoreKeywords(UntimedSemaphoreKeywords, total=False):
    """Options of a semaphore, besides its limit, which are :class:`~aiodistlock.Semaphore`'s."""

    timeout: Duration | None
