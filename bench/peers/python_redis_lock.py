"""python-redis-lock: blocks its thread in BLPOP until the lock is handed over."""

from __future__ import annotations

import logging
from typing import Any

import redis_lock
from redis import ConnectionPool, Redis


class PythonRedisLock:
    """Locks of python-redis-lock; each thread has its own."""

    def __init__(self, redis: Redis, ttl: float) -> None:
        self._redis = redis
        self._ttl = ttl

    def lock(self, name: str) -> Any:
        """Return a lock of one thread."""
        return redis_lock.Lock(self._redis, name, expire=int(self._ttl))


def connect(url: str, tasks: int, ttl: float) -> PythonRedisLock:
    """Connect with a connection for each thread."""
    logging.getLogger("redis_lock").setLevel(logging.ERROR)
    pool = ConnectionPool.from_url(url, max_connections=tasks + 8)
    return PythonRedisLock(Redis(connection_pool=pool), ttl)
