"""Acquires that end at any point leave no key and no place in the queue."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
import redis.asyncio as redis_asyncio

from aiodistlock import AcquireTimeout, LockClient
from tests.faults.orphans import measure
from tests.faults.world import EAGER, PATIENT, client, nothing_left


@pytest.fixture(params=[3, 2], ids=["resp3", "resp2"])
async def pair(
    redis_url: str, request: pytest.FixtureRequest
) -> AsyncIterator[tuple[LockClient, LockClient]]:
    """Two clients, as two processes would have them."""
    made = client(redis_url, protocol=request.param), client(redis_url, protocol=request.param)
    yield made
    for each in made:
        await each.aclose()


@pytest.mark.bounded(60)
async def test_2000_acquires_cancelled_at_random_points_leave_no_orphan(redis_url: str) -> None:
    """No key, no queue entry, whatever mix of cancellations and timeouts."""
    figures = await measure(redis_url, 2000)
    print(figures)  # noqa: T201 - a figure of the release note
    assert figures.orphans == []
    assert figures.ended_early >= 2000
    assert len(figures.outcomes) == 4, "every way to end was taken"


@pytest.mark.parametrize("queued", [False, True], ids=["free", "held"])
async def test_an_acquire_that_times_out_at_any_instant_leaves_nothing(
    pair: tuple[LockClient, LockClient],
    redis: redis_asyncio.Redis,
    namespace: str,
    queued: bool,
) -> None:
    """From 0 us to well behind the answer, in steps of 25 us; the next proceeds at once."""
    here, there = pair
    timed_out = 0
    for step in range(1, 121):
        name = f"n{step}"
        options: dict[str, Any] = {"ttl": 30.0, "namespace": namespace, "backoff": PATIENT}
        theirs = await there.lock(name, **options).acquire() if queued else None
        acquiring = asyncio.create_task(here.lock(name, **options).acquire(step * 25e-6))
        if theirs is not None:
            await theirs.release()
        with suppress(AcquireTimeout):
            await (await acquiring).release()
            continue
        timed_out += 1
        await (await there.lock(name, **options).acquire(timeout=5)).release()
    assert timed_out
    await nothing_left(redis, namespace)


async def test_waiters_that_leave_the_middle_of_the_local_queue_are_forgotten(
    pair: tuple[LockClient, LockClient], redis: redis_asyncio.Redis, namespace: str
) -> None:
    """200 local waiters, two thirds cancelled: the others get the lock in their order."""
    here, _ = pair
    lock = here.lock("n", ttl=30.0, namespace=namespace, backoff=EAGER)
    served: list[int] = []

    async def wait(number: int) -> None:
        async with lock:
            served.append(number)

    async with lock:
        tasks = [asyncio.create_task(wait(number)) for number in range(200)]
        await asyncio.sleep(0)
        for number, task in enumerate(tasks):
            if number % 3:
                task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert served == list(range(0, 200, 3))
    await nothing_left(redis, namespace)


async def test_a_request_is_not_overdue_before_it_was_sent(
    pair: tuple[LockClient, LockClient], redis: redis_asyncio.Redis, namespace: str
) -> None:
    """The look for silence may fall between the request and the end of the loop's turn."""
    here, _ = pair
    lock = here.lock("n", ttl=30.0, namespace=namespace)
    pipe: Any = here._engine("n").connection
    lease = await lock.acquire()
    for operation in (lease.extend(30.0), lease.release()):
        running = asyncio.create_task(operation)
        await asyncio.sleep(0)
        pipe._silence.look()  # as its timer does
        await running
    await nothing_left(redis, namespace)
