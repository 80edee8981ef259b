"""The bench's rows of what there is beside locks."""

import importlib.util

import pytest

if importlib.util.find_spec("matplotlib") is None:
    pytest.skip("needs the bench extra", allow_module_level=True)

from redis.asyncio import Redis

from aiodistlock.testing.embedded import EmbeddedRedis
from bench import measure
from bench.peers import ours_siblings, redis_py_siblings
from bench.peers.catalog import OURS, PEERS, REFERENCE, Side
from bench.peers.siblings import some_names
from bench.plan import Plan
from bench.server import BenchServer
from bench.worker.spec import Spec
from bench.workloads import siblings
from bench.workloads.handoff import hand_overs

PEER_MODULES = {OURS: ours_siblings, REFERENCE: redis_py_siblings}

peer = pytest.mark.parametrize("peer", list(PEER_MODULES))


def test_each_sibling_has_its_peer() -> None:
    """Each case is measured on both sides, and both make the same things."""
    plan = Plan(quick=False, repeat=5, peers=list(PEERS))
    for case in siblings.SIBLINGS.cases(plan):
        assert [side.peer for side in case.sides] == [OURS, REFERENCE]
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
