"""Several names at a time, by several processes: nobody waits for ever."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest
import redis.asyncio as redis_asyncio

from aiodistlock import LockClient
from tests.faults.together_main import NAMES
from tests.faults.world import client, eventually, nothing_left, waiters

ROOT = Path(__file__).parents[2]
ROUNDS = 10
"""How many subsets each task holds."""


@pytest.fixture
async def clients(redis_url: str) -> AsyncIterator[list[LockClient]]:
    """Three clients, as three processes would have them."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(client(redis_url)) for _ in range(3)]


@pytest.mark.bounded(90)
async def test_processes_that_hold_subsets_of_names_all_get_on(
    redis_url: str, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """Whatever the subsets, and in whatever order they are named."""
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.faults.together_main", redis_url, namespace, str(ROUNDS),
            stdout=subprocess.PIPE, cwd=ROOT,
        )
        for _ in range(3)
    ]  # fmt: skip
    try:
        told = [(await each.communicate())[0].split() for each in processes]
    finally:
        for each in processes:
            with suppress(ProcessLookupError):
                each.kill()
            await each.wait()
    for _, fewest, _, overlaps in told:
        assert int(fewest) == ROUNDS
        assert int(overlaps) == 0
    await redis.delete(*(f"{namespace}inside:{name}" for name in NAMES))
    await nothing_left(redis, namespace)


@pytest.mark.parametrize("ordered", [True, False])
async def test_the_order_is_what_keeps_two_from_waiting_for_each_other(
    clients: list[LockClient], redis: redis_asyncio.Redis, namespace: str, ordered: bool
) -> None:
    """Without it each of two has what the other one waits for; with it both get on."""
    one, two, third = clients
    ended: list[str] = []

    async def enter(who: LockClient, *names: str) -> None:
        block = who.together(*names, namespace=namespace)
        if not ordered:
            block._ordered = list(block._locks)
        async with block:
            ended.append(names[0])

    async def held() -> list[list[str]]:
        keys = [list(each._holders) for each in (one, two)]
        return [[key.decode().removeprefix(namespace) for key in each] for each in keys]

    async def waiting() -> dict[str, int]:
        return {name: await waiters(redis, namespace, name) for name in ("a", "b")}

    async with third.together("a", "b", namespace=namespace):
        tasks = [asyncio.create_task(enter(one, "a", "b"))]
        await eventually(waiting, {"a": 1, "b": 0})
        tasks.append(asyncio.create_task(enter(two, "b", "a")))
        await eventually(waiting, {"a": 2, "b": 0} if ordered else {"a": 1, "b": 1})
    if ordered:
        async with asyncio.timeout(20):
            await asyncio.gather(*tasks)
        assert ended == ["a", "b"]
    else:
        # Each has got its first and waits for the other's: now neither can go on.
        await eventually(held, [["a"], ["b"]])
        await eventually(waiting, {"a": 1, "b": 1})
        assert not ended
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await nothing_left(redis, namespace)
