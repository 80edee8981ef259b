"""etcd v3 by aetcd: a lease, and a key that exists while the lock is held."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import aetcd


class Etcd:
    """Locks of aetcd; a lock object keeps its lease, so each task has its own."""

    def __init__(self, client: Any, ttl: float) -> None:
        self._client = client
        self._ttl = ttl

    def lock(self, name: str) -> Any:
        """Return a lock of one task."""
        return self._client.lock(name.encode(), ttl=int(self._ttl))


@asynccontextmanager
async def connect(url: str, tasks: int, ttl: float) -> AsyncIterator[Etcd]:
    """Connect; one gRPC channel carries all."""
    del tasks
    address = urlsplit(url)
    async with aetcd.Client(host=address.hostname, port=address.port) as client:
        yield Etcd(client, ttl)
