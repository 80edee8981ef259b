"""What the bench's tables make of several rounds."""

from typing import Any

import pytest

pytest.importorskip("matplotlib", reason="needs the dependency group plots")

from bench.results import Results, Sample
from bench.tables import workload_table
from bench.workloads import handoff, hot, renewal


def cells(workload: str, case: str, *rounds: dict[str, Any]) -> dict[str, str]:
    """Return what a table shows of a side with these rounds, by column."""
    samples = [
        Sample(workload, case, "redis-py", number, dict(metrics))
        for number, metrics in enumerate(rounds)
    ]
    table = workload_table(Results(samples=samples), workload)
    [row] = table.rows
    return dict(zip(table.header, row, strict=True))


def test_lost_leases_of_all_rounds_are_told() -> None:
    """Two rounds of five that lost some have a median of none."""
    rounds = [{"lost": lost} for lost in (0, 72, 0, 24, 0)]
    found = cells("renewal", renewal.case_name(10_000), *rounds)
    assert found["lost, all rounds"] == "96"


def test_those_that_got_nothing_are_told_of_the_worst_round() -> None:
    """A round in which somebody starved is not outvoted; the rate stays a median."""
    rounds = [{"starved": starved, "rate": 10 * starved} for starved in (0, 3, 0)]
    found = cells("hot", hot.case_name(50, 0.0), *rounds)
    assert found["got nothing, worst round"] == "3"
    assert found["cycles/s"].startswith("0 ")


def test_the_p99_of_a_hand_off_is_of_all_rounds_together() -> None:
    """That of a round of 20 is its longest."""
    rounds = [
        {"p50": 0.001, "longest": times[-1], "times": times}
        for times in ([0.001] * 19 + [0.002], [0.001] * 79 + [0.5])
    ]
    found = cells("handoff", handoff.CASE, *rounds)
    assert found["p99 of all rounds, ms"] == "2"
    assert found["longest of all, ms"] == "500"
    assert found["p50, ms"] == "1"
