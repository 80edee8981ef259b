"""The bench's arithmetic, and that it runs; see also bench/README.md."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="needs the dependency group plots")

from aiodistlock.core.keys import LockKeys
from aiodistlock.core.slots import SLOTS
from bench import cluster, exclusion, plots, report, stats, targets
from bench.measure import combine
from bench.peers.catalog import Side
from bench.plots import throughput as throughput_plot
from bench.results import Results, Sample
from bench.run import order
from bench.targets import Target
from bench.worker.guard import Guard
from bench.worker.record import Recorder, bucket, bucket_value, histogram, quantile
from bench.worker.spec import Spec
from bench.workloads import WORKLOADS, quorum, throughput

ROOT = Path(__file__).parents[2]


def results(*samples: tuple[str, int, dict[str, float]]) -> Results:
    """Build results of one throughput case from (side, round, metrics)."""
    case = throughput.case_name(64)
    found = [Sample("throughput", case, side, number, dict(m)) for side, number, m in samples]
    return Results(samples=found)


def find(what: str) -> Target:
    """Return the target whose text begins so."""
    return next(target for target in targets.targets() if target.what.startswith(what))


def test_of_five_values_the_interval_is_all_of_them() -> None:
    """Five values hold the median between least and greatest with 15/16."""
    found = stats.interval([3.0, 1.0, 2.0, 5.0, 4.0])
    assert (found.median, found.low, found.high) == (3.0, 1.0, 5.0)
    assert found.coverage == pytest.approx(15 / 16)


@pytest.mark.parametrize("n", range(1, 40))
def test_an_interval_is_as_narrow_as_its_coverage_allows(n: int) -> None:
    """It covers 90 % wherever n values can, and one step narrower would not."""
    found = stats.interval(list(range(n)))
    cut = round(found.low)
    assert found.high == n - 1 - cut
    assert found.coverage >= stats.COVERAGE or cut == 0
    assert found.low <= found.median <= found.high


def test_no_values_have_no_interval() -> None:
    """An empty list is an error, not a zero."""
    with pytest.raises(ValueError, match="no values"):
        stats.interval([])


def test_a_ratio_is_taken_within_each_round() -> None:
    """A machine that is twice as slow in one round changes no ratio."""
    found = stats.ratio({0: 100.0, 1: 50.0, 2: 7.0}, {0: 10.0, 1: 5.0})
    assert (found.median, found.low, found.high, found.samples) == (10.0, 10.0, 10.0, 2)


def test_a_ratio_to_nothing_is_an_error() -> None:
    """Dividing by a reference of 0 is refused."""
    with pytest.raises(ValueError, match="reference is 0"):
        stats.ratio({0: 1.0}, {0: 0.0})


@pytest.mark.parametrize("wait", [2e-7, 1e-6, 3.3e-4, 0.05, 1.0, 60.0])
def test_a_bucket_stands_for_its_durations_within_two_percent(wait: float) -> None:
    """The middle of a bucket is close to everything in it."""
    assert bucket_value(bucket(wait)) == pytest.approx(wait, rel=0.016)


def test_quantiles_of_a_histogram_agree_with_those_of_the_values() -> None:
    """Merged histograms give the quantiles of all values, within a bucket."""
    waits = [0.001 * n for n in range(1, 1001)]
    counts = stats.merged([histogram(waits[:300]), histogram(waits[300:])])
    for share in (0.5, 0.9, 0.99):
        exact = quantile(waits, share)
        assert stats.histogram_quantile(counts, share) == pytest.approx(exact, rel=0.04)


def test_fairness_is_one_if_all_got_alike_and_one_nth_if_one_got_all() -> None:
    """Jain's index at its two ends."""
    assert stats.fairness([5, 5, 5, 5]) == 1.0
    assert stats.fairness([20, 0, 0, 0]) == 0.25
    assert stats.fairness([0, 0]) == 0.0


def test_who_still_waits_counts_with_what_it_has_waited_so_far() -> None:
    """In every figure of waits, from asking, though that was before the window; not as a cycle."""
    recorder = Recorder(2)
    recorder.begin()
    recorder.note(0, 0.0, 0.001)
    recorder.pending[1] = 1e-9
    figures = recorder.end()
    assert figures["starved"] == 1
    assert figures["counts"] == [1, 0]
    assert figures["cycles"] == 1
    assert figures["p50"] == pytest.approx(0.001)
    assert figures["p99"] == figures["longest"] == max(figures["longest_by_task"])
    assert figures["p99"] == pytest.approx(time.perf_counter(), rel=0.01)
    assert sum(figures["histogram"].values()) == 2


def test_the_guard_sees_two_inside() -> None:
    """An overlap is counted; a correct sequence is not."""
    guard = Guard.local()
    guard.enter(1)
    guard.leave(1)
    guard.enter(2)
    assert guard.overlaps == 0
    guard.enter(3)
    guard.leave(2)
    assert guard.overlaps == 2


def test_processes_share_the_guard_through_a_page(tmp_path: Path) -> None:
    """One guard sees who is inside by another."""
    page = tmp_path / "page"
    page.write_bytes(bytes(16))
    ours, theirs = Guard.shared(str(page)), Guard.shared(str(page))
    ours.enter(1)
    theirs.enter(2)
    assert (ours.overlaps, theirs.overlaps) == (0, 1)


def test_workers_figures_add_up() -> None:
    """Rates add, waits merge, shares tell who got what."""
    figures = []
    for cycles in (30, 10):
        recorder = Recorder(1)
        recorder.begin()
        for _ in range(cycles):
            recorder.note(0, 0.0, 0.002)
        figures.append({**recorder.end(), "seconds": 2.0, "overlaps": 1})
    found = combine(figures)
    assert found["rate"] == 20.0
    assert found["shares"] == [0.75, 0.25]
    assert found["overlaps"] == 2
    assert found["p99"] == pytest.approx(0.002, rel=0.02)


def test_each_round_begins_with_another_side() -> None:
    """No side is always first, or always follows the same one's load."""
    sides = [Side("a"), Side("b"), Side("c")]
    assert [order(sides, number)[0] for number in range(4)] == [*sides, sides[0]]
    assert order([], 3) == []


@pytest.mark.parametrize(("ours", "met"), [(90.0, True), (89.0, False)])
def test_a_target_is_met_by_what_was_measured(ours: float, met: bool) -> None:
    """The bound itself is met."""
    found = results(
        *(("aiodistlock", n, {"rate": ours}) for n in range(5)),
        *(("redis-py", n, {"rate": 10.0}) for n in range(5)),
    )
    assert find("64 tasks: rate").met(found) is met


def test_a_target_that_was_not_measured_is_neither_met_nor_missed() -> None:
    """No samples, no verdict; and a failed sample is none."""
    assert all(target.met(Results()) is None for target in targets.targets())
    failed = results(("aiodistlock", 0, {}), ("redis-py", 0, {"rate": 10.0}))
    assert find("64 tasks: rate").met(failed) is None


def test_every_target_of_the_issue_has_a_row() -> None:
    """Issue 3, section 2, issue 4, sections 1 and 3, herd (three sizes), lingering, siblings."""
    assert len(targets.targets()) == 22 + 8 + 2 + 9 + 8 + 4


def test_a_report_says_what_was_missed() -> None:
    """The word stands in the row, computed."""
    found = results(("aiodistlock", 0, {"rate": 20.0}), ("redis-py", 0, {"rate": 10.0}))
    found.environment = {"libraries": {}, "peers": {}, "uncommitted": []}
    text = report.markdown(found, [])
    row = next(line for line in text.splitlines() if line.startswith("| 64 tasks: rate"))
    assert row.endswith("| **missed** |")
    assert "cut short" in text


def test_results_survive_the_file(tmp_path: Path) -> None:
    """What is saved is what is read."""
    found = results(("aiodistlock", 0, {"rate": 1.25}))
    found.save(tmp_path / "run.json")
    assert Results.read(tmp_path / "run.json") == found


def test_only_what_stands_between_the_markers_is_replaced(tmp_path: Path) -> None:
    """The prose of a README stays."""
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.write_between_markers(readme, "new")
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "new" in text
    assert "old" not in text


def test_names_are_spread_over_as_many_primaries_as_a_case_says() -> None:
    """The first third of the slots, or all three in turn; each name in a slot of its own."""
    for primaries in (1, 3):
        found = cluster.names(primaries, 30, "lock:")
        slots = [LockKeys(name, "lock:").slot for name in found]
        assert [slot * 3 // SLOTS for slot in slots] == [n % primaries for n in range(30)]
        assert len(set(slots)) == 30


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        (Spec("cycles", "", "", tasks=2, number=1), "bench:1:1"),
        (Spec("cycles", "", "", tasks=2, number=1, hot=True), "bench"),
        (Spec("cycles", "", "", tasks=2, number=1, names=["a", "b", "c", "d"]), "d"),
    ],
)
def test_each_task_of_each_worker_has_its_own_name(spec: Spec, name: str) -> None:
    """Also where names are given: to all workers the same list."""
    assert spec.name(1) == name


def test_a_quorum_is_drawn_as_far_as_it_was_measured(tmp_path: Path) -> None:
    """A side without figures, or a fate that was not measured, leaves no bar."""
    one, some = (quorum.case_name(tasks) for tasks in (1, 64))
    gone = quorum.case_name(64, "killed")
    measured = [
        ("aiodistlock", one),
        ("pottery", one),
        ("aiodistlock", some),
        ("aiodistlock", gone),
    ]
    found = Results(
        samples=[
            Sample("quorum", case, side, number, {"rate": 1000.0 + number, "p50": 0.001})
            for side, case in measured
            for number in range(2)
        ]
    )
    assert plots.draw(found, tmp_path) == [tmp_path / "quorum.png"]
    assert (tmp_path / "quorum.svg").exists()
    assert plots.draw(Results(), tmp_path) == []


def test_a_round_without_a_cycle_is_left_out_of_the_figure() -> None:
    """A rate of zero has no place on a logarithmic axis; the side's others have."""
    found = Results(
        samples=[
            Sample("throughput", f"{tasks} tasks", side, number, {"rate": rate})
            for side, rates in {
                "aiodistlock": (10.0, 20.0),
                "a": (10.0, 0.0),
                "b": (0.0, 0.0),
            }.items()
            for tasks, rate in zip((1, 64), rates, strict=True)
            for number in range(2)
        ]
    )
    assert throughput_plot.draw(found) is not None


@pytest.mark.bounded(150)
def test_the_bench_runs(tmp_path: Path) -> None:
    """One quick round of two locks, and of our pipe, writes figures of all, and saw no overlap."""
    options = ["--quick", "--repeat", "1", "--only", "throughput,limit", "--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "bench", *options, "--peers", "aiodistlock,redis-py,pipe"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=140,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    [path] = tmp_path.glob("*.json")
    data = json.loads(path.read_text())
    found = Results.read(path)
    assert data["complete"]
    assert data["environment"]["commit"]
    assert {"aiodistlock", "redis-py"} <= set(found.sides("throughput"))
    assert [sample.error for sample in found.samples if sample.error] == []
    # Not of each: on a busy machine a short round of many tasks may end before any cycle.
    went = {sample.side for sample in found.samples if sample.metrics["rate"] > 0}
    assert went == {sample.side for sample in found.samples}
    assert not any(exclusion.overlaps(found).values())
    assert (tmp_path / "RESULTS.md").exists()
    assert (tmp_path / "throughput.svg").exists()
    assert list(WORKLOADS) == [
        *("seed", "throughput", "reuse", "ledger", "hot", "handoff", "herd"),
        *("renewal", "limit", "quorum", "cluster", "siblings"),
    ]
