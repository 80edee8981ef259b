"""The bench's cases in which a released lock is wanted again, or by another process."""

import pytest

pytest.importorskip("matplotlib", reason="needs the dependency group plots")

from bench.peers.catalog import AUTO, LINGERING, OURS, PEERS, REFERENCE, Side
from bench.plan import Plan
from bench.server import BenchServer
from bench.workloads import reuse


def test_who_is_asked_back_is_ours() -> None:
    """A poller's lock is free when it is released; in turns all are compared."""
    plan = Plan(quick=False, repeat=5, peers=list(PEERS))
    cases = {case.name: [side.peer for side in case.sides] for case in reuse.REUSE.cases(plan)}
    assert cases[reuse.ASKED_BACK] == [OURS, LINGERING, AUTO]
    assert cases[reuse.IN_TURNS] == [OURS, LINGERING, AUTO, REFERENCE]


@pytest.mark.bounded(60)
@pytest.mark.parametrize("peer", [OURS, LINGERING, AUTO])
def test_a_lock_is_asked_back(peer: str) -> None:
    """Two processes want it in turns, each right after the other has released it."""
    with BenchServer() as server:
        found = reuse.ask_back(server, Side(peer), 4)
    assert 0 < found["p50"] <= found["p99"]


@pytest.mark.bounded(60)
def test_two_processes_want_a_name_at_random() -> None:
    """They pause between their turns, and never meet."""
    plan = Plan(quick=False, repeat=1, peers=[LINGERING])
    (case,) = (each for each in reuse.REUSE.cases(plan) if each.name == reuse.IN_TURNS)
    with BenchServer() as server:
        found = case.run(server, Side(LINGERING))
    assert found["cycles"] > 0
    assert found["overlaps"] == 0
