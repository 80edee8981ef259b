"""Several names at a time, by several processes: nobody waits for ever.

``python -m tests.faults.test_together [SECONDS]`` has five processes go on for longer, and tells
how they got on.
"""

import asyncio
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest
import redis.asyncio as redis_asyncio

from aiodistlock import AcquireTimeout, LeaseLost, LockClient, LockError
from aiodistlock.testing.embedded import EmbeddedRedis
from tests.faults.together_main import NAMES
from tests.faults.world import EAGER, client, eventually, nothing_left, waiters
from tests.proxy import ChaosProxy

ROOT = Path(__file__).parents[2]
ROUNDS = 10
"""How many subsets each task holds."""


@pytest.fixture
async def clients(redis_url: str) -> AsyncIterator[list[LockClient]]:
    """Three clients, as three processes would have them."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(client(redis_url)) for _ in range(3)]


async def hold_subsets(
    url: str, namespace: str, processes: int, rounds: int, seconds: float = 0.0
) -> list[tuple[int, int, float, int]]:
    """
    Have processes hold random subsets of names.

    Returns of each how many its tasks held, the one that held the fewest, the longest wait, and
    how often somebody else was inside.
    """
    running = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.faults.together_main", url, namespace, str(rounds),
            str(seconds), stdout=subprocess.PIPE, cwd=ROOT,
        )
        for _ in range(processes)
    ]  # fmt: skip
    try:
        told = [(await each.communicate())[0].split() for each in running]
    finally:
        for each in running:
            with suppress(ProcessLookupError):
                each.kill()
            await each.wait()
    return [(int(a), int(b), float(c), int(d)) for a, b, c, d in told]


@pytest.mark.bounded(90)
async def test_processes_that_hold_subsets_of_names_all_get_on(
    redis_url: str, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """Whatever the subsets, and in whatever order they are named."""
    for _, fewest, _, overlaps in await hold_subsets(redis_url, namespace, 3, ROUNDS):
        assert fewest == ROUNDS
        assert overlaps == 0
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


@pytest.mark.parametrize("count", [1, 5])
async def test_what_is_free_costs_one_request_and_its_release_one(
    named: ChaosProxy, namespace: str, count: int
) -> None:
    """All names leave in one write, which from four on is one call of a script."""
    async with client(named.url) as here:
        block = here.together(*NAMES[:count], namespace=namespace)
        async with here.lock("warm", namespace=namespace):
            pass
        named.frames.clear()
        async with block:
            pass
    requests = {frame.raw for frame in named.frames if frame.kind == "request"}
    assert len(requests) == 2
    assert named.requests["ACQUIRE"] == named.requests["RELEASE"] == count + 1


async def test_behind_a_black_hole_it_is_the_timeout_that_ends_it(
    proxy: ChaosProxy, namespace: str
) -> None:
    """Not the 30 s for which an acquire goes on trying."""
    async with client(proxy.url) as here:
        async with here.lock("warm", namespace=namespace):
            pass
        proxy.black_hole()
        async with asyncio.timeout(15):
            with pytest.raises(AcquireTimeout) as caught:
                await here.together("a", "b", namespace=namespace, timeout=0.3).__aenter__()
        assert caught.value.timeout == 0.3
        assert not here.health().waiting


async def test_cancelled_it_gives_back_what_it_had_at_hand(
    proxy: ChaosProxy, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """A lease that lingered, while Redis has not answered about another name."""
    async with client(proxy.url) as here:
        lock = here.lock("a", namespace=namespace, linger=30.0)
        while not here.linger_counts.hits:
            async with lock:
                pass
        proxy.black_hole()
        block = here.together("a", "b", namespace=namespace, linger=30.0)
        entering = asyncio.create_task(block.__aenter__())

        async def waiting() -> tuple[int, int]:
            return here.health().held, here.health().waiting

        await eventually(waiting, (1, 1))
        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entering
        assert await waiting() == (0, 0)
    await redis.delete(f"{namespace}a")  # its release went into the hole


async def test_a_close_in_the_turn_of_an_answer_leaves_nobody_waiting(
    clients: list[LockClient], redis: redis_asyncio.Redis, namespace: str
) -> None:
    """Whoever is refused one of the names then queues for it no more: it would wait for ever."""
    here, other, _ = clients

    async def close() -> None:
        await here.lock("c", ttl=30.0, namespace=namespace).acquire()
        await here.aclose()

    async def take() -> None:
        async with here.together("a", "b", ttl=30.0, namespace=namespace):
            pass

    async with other.lock("a", ttl=30.0, namespace=namespace):
        # What they ask for leaves in one write, and the answers come in one read.
        closing, taking = asyncio.create_task(close()), asyncio.create_task(take())
        await closing
        with pytest.raises(LockError, match="closed"):
            await taking
        assert await waiters(redis, namespace, "a") == 0
    await nothing_left(redis, namespace)


@pytest.mark.bounded(90)
async def test_cut_connections_keep_nobody_from_getting_on(
    proxy: ChaosProxy, redis: redis_asyncio.Redis, redis_url: str, namespace: str
) -> None:
    """Whatever was under way is sent again, or its lease is acquired again; none overlap."""
    rng = random.Random(1)
    inside: set[str] = set()

    async def work(locks: LockClient) -> None:
        for _ in range(4):
            names = rng.sample(NAMES, rng.randint(2, len(NAMES)))
            with suppress(LeaseLost):
                async with locks.together(*names, namespace=namespace, backoff=EAGER):
                    assert inside.isdisjoint(names)
                    inside.update(names)
                    try:
                        await asyncio.sleep(0.002)  # real time: for a cut to come in between
                    finally:
                        inside.difference_update(names)

    async def cut(*behind: LockClient) -> None:
        while True:
            await asyncio.sleep(0.02)  # real time: some requests get through
            if all(each.health().connected for each in behind):
                await proxy.cut()

    async with client(proxy.url) as one, client(proxy.url) as two, client(redis_url) as three:
        cutting = asyncio.create_task(cut(one, two))
        async with asyncio.TaskGroup() as group:
            for each in (one, two, three) * 2:
                group.create_task(work(each))
        cutting.cancel()
    await nothing_left(redis, namespace, within=15.0)


async def _tell(seconds: float) -> None:
    with EmbeddedRedis() as server:
        told = await hold_subsets(server.url, "t:", 5, 1, seconds)
    assert not any(overlaps for *_, overlaps in told)
    for held, fewest, longest, _ in told:
        sys.stdout.write(
            f"{held} subsets held; by the task that held the fewest {fewest}; longest wait "
            f"{longest:.3f} s\n"
        )


if __name__ == "__main__":
    asyncio.run(_tell(float(sys.argv[1]) if sys.argv[1:] else 60.0))
