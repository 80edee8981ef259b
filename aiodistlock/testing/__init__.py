"""Tools for testing code that uses aiodistlock; pytest finds its fixtures by itself.

``distlock``, ``distlock_clock`` and ``distlock_redis`` are described by ``pytest --fixtures``.
"""

from aiodistlock.testing.clock import ManualClock
from aiodistlock.testing.embedded import EmbeddedRedis
from aiodistlock.testing.loss import lose_lease

__all__ = ["EmbeddedRedis", "ManualClock", "lose_lease"]
