"""aioredlock, which needs aioredis 1.3 and so an old Python; this file runs on 3.8."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aioredlock import (
    Aioredlock,
)

RETRIES = 1_000_000
"""Its default of 3 gives up after half a second; the others here wait."""


class Entry:
    """One task's use of a name; aioredlock makes a lock object for each acquisition."""

    def __init__(self, manager: Any, name: str, ttl: float) -> None:
        self._manager = manager
        self._name = name
        self._ttl = ttl
        self._lock: Any | None = None

    async def __aenter__(self) -> None:
        self._lock = await self._manager.lock(self._name, lock_timeout=self._ttl)

    async def __aexit__(self, *_: object) -> None:
        await self._manager.unlock(self._lock)


class AioRedlock:
    """Locks of one lock manager."""

    def __init__(self, manager: Any, ttl: float) -> None:
        self._manager = manager
        self._ttl = ttl

    def lock(self, name: str) -> Entry:
        """Return the lock of a name."""
        return Entry(self._manager, name, self._ttl)


@asynccontextmanager
async def connect(url: str, tasks: int, ttl: float) -> AsyncIterator[AioRedlock]:
    """Connect; its own pool has at most 100 connections, which wait in turn."""
    del tasks
    manager = Aioredlock(url.split(","), retry_count=RETRIES)
    try:
        yield AioRedlock(manager, ttl)
    finally:
        await manager.destroy()
