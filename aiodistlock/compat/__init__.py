"""Locks with the face of other libraries' locks, on this package's engine."""

from aiodistlock.compat.redis_py import RedisPyLock

__all__ = ["RedisPyLock"]
