"""
An asyncio-native distributed lock client for Redis.

The rooms, from the top down; ``docs/design.md`` has them whole, each may know those below::

    cli, doctor, demo, console                          edges: commands, and what they share
    integrations, testing, compat                       edges
    locked, client, once, together, election            faces: what users import
    semaphore, lock, lock_like, lease                   faces
    engines                                             what locks on one Redis share
    waiting                                             who is next
    leases                                              how long, and the body of a block
    events                                              what is told
    deployments                                         where locks are kept
    connection                                          one pipelined connection
    protocol                                            what is said: scripts and answers
    core                                                words that all use
"""

from aiodistlock.client import LockClient
from aiodistlock.core.backoff import Backoff
from aiodistlock.election import Candidacy, Election, Leader, Term
from aiodistlock.errors import AcquireTimeout, LeaseLost, LockError, NotHeld, StoreUnavailable
from aiodistlock.events.events import (
    Abandoned,
    Acquired,
    HandedOver,
    Lingered,
    Listener,
    LockEvent,
    Lost,
    Released,
    Renewed,
    Unavailable,
    Waiting,
)
from aiodistlock.events.listeners import add_listener, remove_listener
from aiodistlock.lease import Lease
from aiodistlock.lock import AsyncLock, LockInfo
from aiodistlock.lock_like import Hold
from aiodistlock.locked import locked
from aiodistlock.once import Once, Ran, Run, Skipped
from aiodistlock.readwrite import ReadWriteLease, ReadWriteLock, Side
from aiodistlock.semaphore import (
    PermitInfo,
    Semaphore,
    SemaphoreHold,
    SemaphoreInfo,
    SemaphoreLease,
)
from aiodistlock.together import Together
from aiodistlock.waiting.lingering_leases import LingerCounts
from aiodistlock.waiting.status import ClientHealth

__version__ = "0.1.0"

__all__ = [
    "Abandoned",
    "AcquireTimeout",
    "Acquired",
    "AsyncLock",
    "Backoff",
    "Candidacy",
    "ClientHealth",
    "Election",
    "HandedOver",
    "Hold",
    "Leader",
    "Lease",
    "LeaseLost",
    "LingerCounts",
    "Lingered",
    "Listener",
    "LockClient",
    "LockError",
    "LockEvent",
    "LockInfo",
    "Lost",
    "NotHeld",
    "Once",
    "PermitInfo",
    "Ran",
    "ReadWriteLease",
    "ReadWriteLock",
    "Released",
    "Renewed",
    "Run",
    "Semaphore",
    "SemaphoreHold",
    "SemaphoreInfo",
    "SemaphoreLease",
    "Side",
    "Skipped",
    "StoreUnavailable",
    "Term",
    "Together",
    "Unavailable",
    "Waiting",
    "add_listener",
    "locked",
    "remove_listener",
]
