"""An asyncio-native distributed lock client for Redis."""

from aiodistlock.client import LockClient
from aiodistlock.core.backoff import Backoff
from aiodistlock.core.events import (
    Abandoned,
    Acquired,
    HandedOver,
    Listener,
    LockEvent,
    Lost,
    Released,
    Renewed,
    Unavailable,
    Waiting,
)
from aiodistlock.engine.audience import add_listener, remove_listener
from aiodistlock.errors import AcquireTimeout, LeaseLost, LockError, NotHeld, StoreUnavailable
from aiodistlock.hold import Hold
from aiodistlock.lease import Lease
from aiodistlock.lock import AsyncLock, LockInfo
from aiodistlock.locked import locked

__version__ = "0.1.0"

__all__ = [
    "Abandoned",
    "AcquireTimeout",
    "Acquired",
    "AsyncLock",
    "Backoff",
    "HandedOver",
    "Hold",
    "Lease",
    "LeaseLost",
    "Listener",
    "LockClient",
    "LockError",
    "LockEvent",
    "LockInfo",
    "Lost",
    "NotHeld",
    "Released",
    "Renewed",
    "StoreUnavailable",
    "Unavailable",
    "Waiting",
    "add_listener",
    "locked",
    "remove_listener",
]
