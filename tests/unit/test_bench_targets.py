"""How the bench's targets are computed from rounds."""

# ruff: noqa: RUF001  # the multiplication sign is meant

import pytest

pytest.importorskip("matplotlib", reason="needs the dependency group plots")

from typing import Any, cast

from bench import targets
from bench.peers.catalog import Side
from bench.plan import Case, Plan, Workload
from bench.results import Metrics, Results, Sample
from bench.run import Run
from bench.server import BenchServer
from bench.targets import Target
from bench.workloads import handoff, quorum, throughput

MANY = throughput.case_name(64)
WHOLE, LESS = quorum.case_name(64), quorum.case_name(64, "killed")


def find(what: str) -> Target:
    """Return the target whose text begins so."""
    return next(target for target in targets.targets() if target.what.startswith(what))


def rounds(workload: str, case: str, side: str, metric: str, *values: float) -> list[Sample]:
    """Build the rounds of one side of a case."""
    return [Sample(workload, case, side, n, {metric: value}) for n, value in enumerate(values)]


@pytest.mark.parametrize(
    ("what", "samples", "told"),
    [
        (
            "64 tasks: rate",
            [
                *rounds("throughput", MANY, "aiodistlock", "rate", 20, 40, 60),
                *rounds("throughput", MANY, "redis-py", "rate", 2, 2, 2),
            ],
            "20 × (10 to 30)",
        ),
        (
            "64 tasks: acquire p99",
            rounds("throughput", MANY, "aiodistlock", "p99", 0.002, 0.001, 0.9),
            "2 ms (1 to 900)",
        ),
        (
            "hand-off p50",
            [
                *rounds("handoff", handoff.CASE, "aiodistlock", "p50", 0.001, 0.001, 0.001),
                *rounds("handoff", handoff.CASE, "redis-py", "p50", 0.05, 0.04, 0.08),
            ],
            "1/50 (1/80 to 1/40)",
        ),
        (
            f"quorum, {LESS}: p50",
            [
                # The second round was slow altogether, and no node's loss made it so.
                *rounds("quorum", WHOLE, "aiodistlock", "p50", 0.001, 0.008, 0.001),
                *rounds("quorum", LESS, "aiodistlock", "p50", 0.002, 0.008, 0.003),
            ],
            "2 × (1 to 3)",
        ),
    ],
)
def test_a_target_is_told_with_its_interval(what: str, samples: list[Sample], told: str) -> None:
    """Each kind of ratio from within rounds, and plain figures too."""
    assert find(what).measure(Results(samples=samples)).text == told


def test_a_single_round_has_no_interval() -> None:
    """Its ends would look like knowledge."""
    found = rounds("throughput", MANY, "aiodistlock", "p99", 0.002)
    assert find("64 tasks: acquire p99").measure(Results(samples=found)).text == "2 ms"


def test_a_round_has_all_cases_of_a_workload() -> None:
    """Some are compared with each other; and one that failed is not tried again."""
    tried: list[tuple[str, str]] = []

    def case(name: str) -> Case:
        def run(_server: BenchServer, side: Side) -> Metrics:
            tried.append((name, side.peer))
            if (name, side.peer) == ("before", "b"):
                raise OSError("no route")
            return {"rate": 1.0}

        return Case(name, [Side("a"), Side("b")], run)

    workload = Workload("any", "", lambda _plan: [case("before"), case("after")])
    results = Results()
    told: list[str] = []
    plan = Plan(quick=False, repeat=2, peers=["a", "b"])
    Run(cast(Any, None), plan, results, told.append).measure([workload])
    first = [("before", "a"), ("before", "b"), ("after", "a"), ("after", "b")]
    assert tried == [*first, ("before", "a"), ("after", "b"), ("after", "a")]
    assert [sample.round for sample in results.samples] == [0] * 4 + [1] * 3
    assert [sample.error for sample in results.errors("any")] == ["OSError: no route"]
    assert len(told) == 8 + 1
