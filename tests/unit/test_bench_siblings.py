"""The bench's rows of what there is beside locks."""

import asyncio
import contextlib
import importlib
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

pytest.importorskip("matplotlib", reason="needs the dependency group plots")

from redis.asyncio import Redis

from aiodistlock.testing.embedded import EmbeddedRedis
from bench import measure
from bench.peers import ours_siblings, redis_py_siblings
from bench.peers import siblings as kinds
from bench.peers.catalog import OURS, PEERS, REFERENCE, SEMAPHORE, Side
from bench.peers.siblings import LIMIT, Places, some_names
from bench.plan import Plan
from bench.server import BenchServer
from bench.worker.places import PlacesLoad
from bench.worker.spec import Spec
from bench.workloads import siblings
from bench.workloads.handoff import hand_overs

PEER_MODULES = {OURS: ours_siblings, REFERENCE: redis_py_siblings}
SEMAPHORE_MISSING = PEERS[SEMAPHORE].missing()

peer = pytest.mark.parametrize("peer", list(PEER_MODULES))


def test_each_sibling_has_its_peer() -> None:
    """Each case is measured on both sides, and both make the same things."""
    plan = Plan(quick=False, repeat=5, peers=list(PEERS))
    for case in siblings.SIBLINGS.cases(plan):
        others = [SEMAPHORE] if case.name == siblings.PERMITS else []
        assert [side.peer for side in case.sides] == [OURS, REFERENCE, *others]
    assert set(ours_siblings.SIBLINGS) == set(redis_py_siblings.SIBLINGS)


def test_any_two_that_contend_have_a_name_in_common() -> None:
    """So nobody is inside beside another, which the guard then checks."""
    for _ in range(100):
        assert set(some_names("n")) & set(some_names("n"))


@peer
async def test_a_window_is_done_once(peer: str, embedded_redis: EmbeddedRedis) -> None:
    """And the next one again."""
    done = []

    async def body() -> None:
        done.append(True)

    async with PEER_MODULES[peer].connect(embedded_redis.url, 1, 5.0, "windows") as made:
        assert await made.lock("job").run(1, body)
        assert not await made.lock("job").run(1, body)
        assert await made.lock("job").run(2, body)
    assert len(done) == 2


@peer
@pytest.mark.parametrize(("sibling", "names"), [("together", 5), ("subsets", 3), ("election", 1)])
async def test_what_is_entered_is_held_and_left(
    peer: str, embedded_redis: EmbeddedRedis, sibling: str, names: int
) -> None:
    """Again and again, by one object."""
    async with (
        PEER_MODULES[peer].connect(embedded_redis.url, 1, 5.0, sibling) as made,
        Redis.from_url(embedded_redis.url) as redis,
    ):
        entry = made.lock("a")
        for _ in range(2):
            async with entry:
                held = [key async for key in redis.scan_iter("*a*") if b"aiodistlock:" not in key]
                assert len(held) == names
            assert not [key async for key in redis.scan_iter("*a*") if b"aiodistlock:" not in key]


@peer
async def test_as_many_hold_permits_as_the_limit_says(
    peer: str, embedded_redis: EmbeddedRedis
) -> None:
    """One more waits until one has left."""
    async with PEER_MODULES[peer].connect(embedded_redis.url, LIMIT + 1, 60.0, "semaphore") as made:
        await _one_more_waits(made.lock("s"))


@pytest.mark.skipif(SEMAPHORE_MISSING is not None, reason=str(SEMAPHORE_MISSING))
async def test_a_semaphore_of_a_library_has_the_same_limit(embedded_redis: EmbeddedRedis) -> None:
    """Its tasks have a semaphore each, of one name."""
    module = importlib.import_module("bench.peers.py_redis_semaphore_siblings")
    async with module.connect(embedded_redis.url, LIMIT + 1, 60.0, "semaphore") as made:
        await _one_more_waits(Places(LIMIT, lambda: made.lock("s").block()))


async def _one_more_waits(places: Places) -> None:
    async with AsyncExitStack() as stack:
        blocks = [places.block() for _ in range(LIMIT + 1)]
        assert {takes for _, takes in blocks} == {1}
        assert places.most == LIMIT
        for block, _ in blocks[1:-1]:
            await stack.enter_async_context(block)
        async with blocks[0][0]:
            last = asyncio.create_task(stack.enter_async_context(blocks[-1][0]))
            assert not (await asyncio.wait([last], timeout=0.3))[0]
        await last


@peer
async def test_readers_read_together_and_a_writer_waits_for_them(
    peer: str, embedded_redis: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nobody reads beside the writer."""
    drawn = iter([0.0, 0.0, 1.0, 0.0])
    monkeypatch.setattr(kinds, "random", SimpleNamespace(random=lambda: next(drawn)))
    async with PEER_MODULES[peer].connect(embedded_redis.url, 4, 60.0, "readwrite") as made:
        places = made.lock("rw")
        (first, one), (second, _), (write, all_of_them), (third, _) = (
            places.block() for _ in range(4)
        )
        assert one == 1
        assert all_of_them == places.most
        async with first, second:
            writer = asyncio.create_task(write.__aenter__())
            assert not (await asyncio.wait([writer], timeout=0.3))[0]
        await writer
        reader = asyncio.create_task(third.__aenter__())
        assert not (await asyncio.wait([reader], timeout=0.3))[0]
        await write.__aexit__(None, None, None)
        await reader
        await third.__aexit__(None, None, None)


@pytest.mark.bounded(60)
@peer
@pytest.mark.parametrize("sibling", ["semaphore", "readwrite", "readers"])
def test_what_several_hold_is_measured(peer: str, sibling: str) -> None:
    """Nobody is inside where there is no room."""
    with BenchServer() as server:
        spec = Spec(
            "places", "", server.url, sibling=sibling, tasks=60, hot=True, body=0.0, seconds=1.0
        )
        found = measure.cycles(server, Side(peer), spec)
    assert found["cycles"] > 0
    assert found["overlaps"] == 0


async def test_one_too_many_inside_is_counted() -> None:
    """By the places that there are: a writer's beside a reader, or a permit above the limit."""

    class Peer:
        def lock(self, _name: str) -> Any:
            return Places(5, lambda: (contextlib.nullcontext(), 3))

    load = PlacesLoad(Spec("places", "", "", tasks=2, hot=True, body=0.0), Peer())
    tasks = [asyncio.create_task(load.work(task)) for task in range(2)]
    with anyio.fail_after(10):
        while not load.overlaps:
            await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


@pytest.mark.bounded(60)
@peer
@pytest.mark.parametrize("hot", [False, True])
def test_windows_are_done_or_found_done(peer: str, hot: bool) -> None:
    """Each task has waits of its own, and none is done by two at once."""
    with BenchServer() as server:
        spec = Spec(
            "windows", "", server.url, sibling="windows", tasks=4, hot=hot, seconds=3.0, warmup=0.05
        )
        found = measure.cycles(server, Side(peer), spec)
    assert found["cycles"] > 0
    assert found["overlaps"] == 0


@pytest.mark.bounded(60)
@peer
def test_a_leader_is_followed_when_it_resigns_and_when_it_is_killed(peer: str) -> None:
    """The one takes no lease's length, the other about one."""
    with BenchServer() as server:
        resigned = hand_overs(server, Side(peer), siblings._candidate(server), 2)
        # Long, for a busy machine: a lease that is over before its time is another story.
        killed = siblings.killed(server, Side(peer), 1, ttl=8.0)
    assert len(resigned["times"]) == 2
    assert 0 < resigned["p50"] < 10
    assert 0 < killed["p50"] < 8.0 + 10
