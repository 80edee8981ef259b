"""aiodistlock, with its defaults."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from redis.asyncio import Redis

from aiodistlock import AsyncLock, Lease, LockClient


class Ours:
    """Locks on one Redis client, on several, or on a cluster, as the README shows them."""

    def __init__(
        self, redis: Redis | list[Redis] | LockClient, ttl: float, linger: float | str = 0.0
    ) -> None:
        self._redis = redis
        self._ttl = ttl
        # Another commit of ours may not know the option.
        self._options: dict[str, Any] = {"linger": linger} if linger else {}
        self._leases: list[Lease] = []

    def lock(self, name: str) -> AsyncLock:
        """Return a lock; its tasks could share one as well."""
        return AsyncLock(self._redis, name, ttl=self._ttl, **self._options)

    async def keep(self, name: str) -> None:
        """Acquire; the client's watchdog renews."""
        self._leases.append(await self.lock(name).acquire())

    def losses(self) -> list[str]:
        """Return a text for each lease that is not held any more."""
        return [repr(lease) for lease in self._leases if not lease.is_held]


@asynccontextmanager
async def connect(url: str, tasks: int, ttl: float) -> AsyncIterator[Ours]:
    """Connect; the pool's size does not matter, since one connection carries all."""
    del tasks
    if url.startswith("redis+cluster://"):
        async with LockClient.from_url(url) as client:
            yield Ours(client, ttl)
        return
    async with AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(Redis.from_url(each)) for each in url.split(",")]
        yield Ours(nodes if len(nodes) > 1 else nodes[0], ttl)
