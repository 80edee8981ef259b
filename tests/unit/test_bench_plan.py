"""How much the bench measures."""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

import pytest

pytest.importorskip("matplotlib", reason="needs the dependency group plots")

from bench import measure
from bench.peers.catalog import PEERS
from bench.plan import QUICK_ROUNDS, Plan, Workload
from bench.run import total
from bench.server import BenchServer
from bench.worker.spec import Spec
from bench.workloads import WORKLOADS, hot, quorum, throughput

FULL = Plan(quick=False, repeat=5, peers=list(PEERS))


def windows(workload: Workload, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[float]]:
    """Return the windows of a workload's sides in seconds, by case."""
    seconds: list[float] = []

    def cycles(_server: object, _side: object, spec: Spec, *_: object, **__: object) -> Any:
        seconds.append(spec.seconds)
        return {}

    server = SimpleNamespace(url="redis://")
    monkeypatch.setattr(measure, "cycles", cycles)
    monkeypatch.setattr("bench.workloads.quorum.BenchQuorum", lambda: nullcontext(server))
    found = {}
    for case in workload.cases(FULL):
        seconds.clear()
        for side in case.sides:
            case.run(cast(BenchServer, server), side)
        found[case.name] = list(seconds)
    return found


def test_a_window_is_as_long_as_the_slowest_needs() -> None:
    """For 20 cycles a task, within limits that keep a run short."""
    assert FULL.window(1, 2000) == 0.6
    assert FULL.window(80, 2000) == 0.8
    assert FULL.window(1024, 2000) == 3.0
    assert Plan(quick=True, repeat=1, peers=[]).window(1024, 2000) < 0.6


def test_many_tasks_have_a_long_window_of_every_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ratio compares windows of the same length."""
    found = windows(throughput.THROUGHPUT, monkeypatch)
    assert set(found[throughput.case_name(1024)]) == {3.0}
    assert set(found[throughput.case_name(1)]) == {0.6}
    assert min(windows(quorum.QUORUM, monkeypatch)[quorum.case_name(64)]) > 2.5
    of_hot = windows(hot.HOT, monkeypatch)
    assert all(len(set(seconds)) == 1 for seconds in of_hot.values())
    # A turn of all 800 takes 0.8 s.
    assert min(of_hot[hot.case_name(200, 0.001, hot.PROCESSES)]) >= 2.4


def test_a_quick_run_measures_some_of_everything_in_little_time() -> None:
    """A sample takes a second and a half, so there are few."""
    quick = Plan(quick=True, repeat=QUICK_ROUNDS, peers=list(PEERS))
    assert all(any(case.sides for case in each.cases(quick)) for each in WORKLOADS.values())
    assert total(list(WORKLOADS.values()), quick) <= 76
