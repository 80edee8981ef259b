"""Takes permits of a semaphore."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from aiodistlock import LockClient, LockError, Semaphore, SemaphoreLease
from aiodistlock.errors import LeaseLost
from tests.simulation.kinds import TIMEOUTS
from tests.simulation.permits import NAMESPACE

if TYPE_CHECKING:
    from tests.simulation.worker import Worker


class Asked(NamedTuple):
    """What a task asks for."""

    name: str
    limit: int
    permits: int
    at: float


async def take_permits(worker: Worker, client: LockClient, name: str) -> None:
    """Take some of the permits, by a limit that most agree on, and hold them for a while."""
    rng, judge = worker.kinds_rng, worker.judge
    limit = Random(f"{worker.plan.seed}:{name}:limit").choice((1, 2, 2, 3, 5))
    if rng.random() < 0.1:
        limit = max(1, limit + rng.choice((-1, 1, 3)))
    permits = 1 if rng.random() < 0.6 else rng.randint(1, limit)
    options = _options(worker)
    semaphore = client.semaphore(name, limit, **options)
    worker.doing = f"{permits} of {semaphore!r}"
    wanted = judge.permits.names[name].wait.wanted
    wanted[worker] = judge.now
    try:
        cancelled = options.get("on_lost") != "signal"
        await _take(worker, semaphore, Asked(name, limit, permits, judge.now), cancelled=cancelled)
    finally:
        wanted.pop(worker, None)


def _options(worker: Worker) -> dict[str, Any]:
    rng, ttl = worker.kinds_rng, worker.kinds_rng.choice(worker.plan.ttls)
    options: dict[str, Any] = {"ttl": ttl, "timeout": rng.choice(TIMEOUTS)}
    draw = rng.random()
    if draw < 0.1:
        options["on_lost"] = "signal"
    elif draw < 0.2:
        options["max_hold"] = max(0.05, ttl * rng.choice((0.5, 1.5)))
    return options | {"backoff": worker.backoff, "namespace": NAMESPACE}


async def _take(worker: Worker, semaphore: Semaphore, asked: Asked, *, cancelled: bool) -> None:
    way = worker.kinds_rng.random()
    if way < 0.15:
        tried = await semaphore.try_acquire(permits=asked.permits)
        if tried is not None:
            await _hold_and_release(worker, asked, tried)
    elif way < 0.35:
        await _hold_and_release(worker, asked, await semaphore.acquire(permits=asked.permits))
    else:
        async with worker.bounded(), semaphore.hold(permits=asked.permits) as lease:
            await _hold(worker, asked, lease, cancelled=cancelled)


async def _hold_and_release(worker: Worker, asked: Asked, lease: SemaphoreLease) -> None:
    try:
        await _hold(worker, asked, lease, cancelled=False)
    finally:
        with suppress(LockError):  # it would take the place of a cancellation
            await lease.release()


async def _hold(worker: Worker, asked: Asked, lease: SemaphoreLease, *, cancelled: bool) -> None:
    """Hold permits, for longer than a lease at times."""
    rng, judge, plan = worker.kinds_rng, worker.judge, worker.plan
    judge.permits.names[asked.name].wait.wanted.pop(worker, None)
    held = judge.permits.begins(worker.process, asked, lease)
    worker.doing = f"{lease!r}"
    ttl = lease._process_lease.options.ttl
    long = () if plan.bodies == "short" else (ttl, 2.5 * ttl)
    longest, steps = rng.choice((0.0, 0.0, 0.001, 0.01, *long)), rng.randint(1, 4)
    try:
        for _ in range(steps):
            await asyncio.sleep(longest / steps * rng.random())
            if worker.stopping:
                break
            if cancelled:
                judge.goes_on(held)
            if rng.random() < plan.extends:
                with suppress(LeaseLost):
                    await lease.extend(ttl)
    finally:
        judge.permits.ends(held)
