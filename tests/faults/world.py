"""What the fault tests share: clients, scripts by name, and what must be left: nothing."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import redis.asyncio as redis_asyncio

from aiodistlock import Backoff, Lease, LockClient
from aiodistlock.leases.shared_lease import Share
from aiodistlock.leases.states import LeaseEvent
from aiodistlock.protocol import scripts

_ALL = {
    name: getattr(scripts, name)
    for name in (
        *("ACQUIRE", "RELEASE", "RENEW", "PASS_ON", "ABANDON", "INSPECT"),
        *("CLAIM", "MOVE_END", "LOOK", "MARK", "LEADER", "PROCLAIM", "BATCH"),
        *("ACQUIRE_PERMITS", "RELEASE_PERMITS", "RENEW_PERMITS", "ABANDON_PERMITS"),
        "INSPECT_PERMITS",
        *("READ", "WRITE", "UPGRADE", "DOWNGRADE"),
    )
}

SCRIPTS = {script.sha.decode(): name for name, script in _ALL.items()}
"""For ``ChaosProxy.script_names``."""

PATIENT = Backoff(initial=20.0, factor=1.0, cap=20.0, jitter=0.0)
"""Of a waiter that does not poll: only a grant wakes it in time."""

EAGER = Backoff(initial=0.02, factor=1.5, cap=0.1)
"""Of a waiter that makes up quickly for a lost grant."""


def client(url: str, *, protocol: int = 3, **options: Any) -> LockClient:
    """Build a client with a connection of its own: to Redis, a process of its own."""
    return LockClient.from_url(url, protocol=protocol, **options)


async def load_scripts(redis: redis_asyncio.Redis) -> None:
    """Load all scripts, so that no EVALSHA comes twice for want of them."""
    for script in _ALL.values():
        await redis.script_load(script.source)


async def eventually(
    what: Callable[[], Awaitable[Any]], wanted: object, *, within: float = 5.0
) -> None:
    """Ask until the answer is as wanted; what is not awaited by its sender takes time."""
    until = time.monotonic() + within
    while (answer := await what()) != wanted:
        assert time.monotonic() < until, f"{answer!r}, not {wanted!r}, after {within} s"
        await asyncio.sleep(0.005)


async def left(redis: redis_asyncio.Redis, namespace: str) -> list[bytes]:
    """Return the keys below a namespace, but what outlives locks: fences, versions, and voids."""
    found = [key async for key in redis.scan_iter(match=f"*{namespace}*", count=1000)]
    lasting = (b"aiodistlock:fence", b"aiodistlock:version:", b"aiodistlock:void:")
    return sorted(key for key in found if not key.startswith(lasting))


async def nothing_left(redis: redis_asyncio.Redis, namespace: str, within: float = 5.0) -> None:
    """Check that soon no key and no queue is left below a namespace."""
    await eventually(lambda: left(redis, namespace), [], within=within)


async def waiters(redis: redis_asyncio.Redis, namespace: str, name: str) -> int:
    """Return how many wait at Redis for a name."""
    return int(await redis.zcard(f"aiodistlock:queue:{{{namespace}{name}}}"))


def lose(lease: Lease, reason: str = "said the test") -> None:
    """Have the client find the lease lost, now: no fault does so at a chosen turn."""
    ours = lease._process_lease
    process_lease = ours.shared if isinstance(ours, Share) else ours
    lease._client.watchdog._lose(process_lease, LeaseEvent.REFUSED, reason)
