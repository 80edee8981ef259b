"""What aiodistlock has beside locks, each as its page shows it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from aiodistlock import LockClient, Ran, Run
from bench.peers.siblings import (
    LIMIT,
    READING,
    Entry,
    Places,
    SiblingPeer,
    own_names,
    permits,
    readers_and_writers,
    some_names,
)


class Windows:
    """A job that is done once a window."""

    def __init__(self, locks: LockClient, name: str, ttl: float) -> None:
        self._once = locks.once(name, ttl=ttl)

    async def run(self, window: int, body: Callable[[], Awaitable[object]]) -> bool:
        """Do a window if it is not done; tell whether it was ours."""

        async def job(_run: Run) -> None:
            await body()

        return isinstance(await self._once.run(job, window=window), Ran)


def _election(locks: LockClient, name: str, ttl: float) -> Entry:
    return Entry(locks.election(name, ttl=ttl).lead)


def _together(locks: LockClient, name: str, ttl: float) -> Entry:
    names = own_names(name)
    return Entry(lambda: locks.together(*names, ttl=ttl))


def _subsets(locks: LockClient, name: str, ttl: float) -> Entry:
    return Entry(lambda: locks.together(*some_names(name), ttl=ttl))


def _semaphore(locks: LockClient, name: str, ttl: float) -> Places:
    return permits(locks.semaphore(name, LIMIT, ttl=ttl).hold)


def _readwrite(locks: LockClient, name: str, ttl: float, reading: float = READING) -> Places:
    rw = locks.rwlock(name, ttl=ttl)
    return readers_and_writers(rw.read().hold, rw.write().hold, reading)


SIBLINGS: dict[str, Callable[[LockClient, str, float], Any]] = {
    "windows": Windows,
    "election": _election,
    "together": _together,
    "subsets": _subsets,
    "semaphore": _semaphore,
    "readwrite": _readwrite,
    "readers": partial(_readwrite, reading=1.0),
}


@asynccontextmanager
async def connect(url: str, tasks: int, ttl: float, sibling: str) -> AsyncIterator[SiblingPeer]:
    """Connect; one connection carries all."""
    del tasks
    async with LockClient.from_url(url) as locks:
        yield SiblingPeer(lambda name: SIBLINGS[sibling](locks, name, ttl))
