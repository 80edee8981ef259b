"""An asyncio-native distributed lock client for Redis."""

from aiodistlock.client import LockClient
from aiodistlock.core.backoff import Backoff
from aiodistlock.errors import AcquireTimeout, LeaseLost, LockError, NotHeld, StoreUnavailable
from aiodistlock.hold import Hold
from aiodistlock.lease import Lease
from aiodistlock.lock import AsyncLock, LockInfo
from aiodistlock.locked import locked

__version__ = "0.1.0"

__all__ = [
    "AcquireTimeout",
    "AsyncLock",
    "Backoff",
    "Hold",
    "Lease",
    "LeaseLost",
    "LockClient",
    "LockError",
    "LockInfo",
    "NotHeld",
    "StoreUnavailable",
    "locked",
]
