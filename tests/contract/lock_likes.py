"""Each lock-like thing, where whoever has it excludes everybody else."""

from collections.abc import Callable, Coroutine
from itertools import count
from typing import Any

from aiodistlock import AcquireTimeout, Lease, LockClient, Ran
from tests.contract.world import HOUR, World

NAME = "wallet"

Body = Callable[[Any], Coroutine[Any, Any, None]]
"""Gets a lease, or what has one: a term, a run."""

Use = Callable[[World, LockClient, Body, float | None], Coroutine[Any, Any, None]]
"""Waits for so many seconds, and runs the body inside."""

_windows = count(1)


async def _lock(world: World, client: LockClient, body: Body, timeout: float | None) -> None:
    async with world.lock(client, NAME, ttl=HOUR, timeout=timeout) as lease:
        await body(lease)


async def _together(world: World, client: LockClient, body: Body, timeout: float | None) -> None:
    names = ("z", NAME, "a")
    async with client.together(
        *names, namespace=world.namespace, ttl=HOUR, timeout=timeout
    ) as leases:
        await body(leases[1])


async def _election(world: World, client: LockClient, body: Body, timeout: float | None) -> None:
    async with client.election(NAME, namespace=world.namespace, ttl=HOUR).lead(timeout) as term:
        await body(term)


async def _once(world: World, client: LockClient, body: Body, timeout: float | None) -> None:
    once = client.once(NAME, namespace=world.namespace, ttl=HOUR, timeout=timeout)
    while True:  # until there is a window that nobody has overtaken
        outcome = await once.run(body, window=next(_windows))
        if isinstance(outcome, Ran):
            return
        if outcome.reason == "held":
            raise AcquireTimeout(NAME, timeout or 0.0)


async def _semaphore(world: World, client: LockClient, body: Body, timeout: float | None) -> None:
    semaphore = client.semaphore(NAME, 1, namespace=world.namespace, ttl=HOUR)
    async with semaphore.hold(timeout) as lease:
        await body(lease)


async def _write(world: World, client: LockClient, body: Body, timeout: float | None) -> None:
    lock = client.rwlock(NAME, namespace=world.namespace, ttl=HOUR)
    async with lock.write().hold(timeout) as lease:
        await body(lease)


LOCK_LIKES: dict[str, Use] = {
    "lock": _lock,
    "together": _together,
    "election": _election,
    "once": _once,
    "semaphore": _semaphore,
    "write": _write,
}


def lease_of(inside: Any) -> Lease:
    """Return the lease of what a body gets."""
    return inside if isinstance(inside, Lease) else inside._lease
