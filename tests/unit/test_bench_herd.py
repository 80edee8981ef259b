"""What the bench tells of many clients that wait for one name."""

import pytest

pytest.importorskip("matplotlib", reason="needs the dependency group plots")

from bench.peers.catalog import AT, OURS, PEERS, Side
from bench.plan import Plan
from bench.processes import Worker
from bench.server import BenchServer
from bench.worker.spec import Spec
from bench.workloads import herd


def test_a_gap_is_from_a_release_to_the_next_body_in_whatever_process() -> None:
    """Both processes' turns in one order; who is inside too early is an overlap."""
    ours = {"seconds": 2.0, "client_cpu": 0.004, "inside": [[1.0, 2.0], [3.5, 4.0], [4.9, 6.0]]}
    theirs = {"seconds": 2.5, "client_cpu": 0.006, "inside": [[2.25, 3.0], [4.5, 5.0]]}
    found = herd.combine([ours, theirs])
    assert (found["rate"], found["cycles"], found["overlaps"]) == (2.0, 5, 1)
    assert (found["p50"], found["longest"]) == (0.25, 0.5)
    assert found["client_us"] == pytest.approx(2000)
    assert herd.combine([{**ours, "inside": []}])["p50"] == 0.0


def test_pollers_are_spared_the_largest_herd_and_another_commit_is_not() -> None:
    """Ours and the other commit in all cases, the reference while it leaves time for others."""
    peers = [f"{AT}0123456789", *PEERS]
    full = {
        case.name: {side.peer for side in case.sides}
        for case in herd.HERD.cases(Plan(quick=False, repeat=5, peers=peers))
    }
    assert list(full) == [herd.case_name(clients) for clients in herd.SIZES]
    assert full[herd.case_name(1000)] == {peers[0], OURS, "redis-py"}
    assert full[herd.case_name(5000)] == {peers[0], OURS}


@pytest.mark.bounded(30)
@pytest.mark.parametrize("peer", [OURS, "redis-py"])
def test_each_client_of_a_herd_has_a_connection_and_turns_of_its_own(peer: str) -> None:
    """Five clients are five connections, and the bodies of their turns never meet."""
    with BenchServer() as server:
        spec = Spec("herd", "", server.url, tasks=5, hot=True, body=0.001, seconds=0.3)
        with Worker(Side(peer), spec) as worker:
            worker.hear()
            assert server.redis.info("clients")["connected_clients"] >= 5 + 1
            worker.tell("go")
            found = herd.combine([worker.hear()])
    assert found["cycles"] > 0
    assert found["overlaps"] == 0
