"""The run: all cases of a workload in turn, of each all sides, round after round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench.peers.catalog import Side
from bench.plan import Case, Plan, Workload
from bench.processes import WorkerFailed
from bench.results import Metrics, Results, Sample
from bench.server import BenchServer
from bench.worker.trouble import in_one_line


def order(sides: Sequence[Side], number: int) -> list[Side]:
    """Return the sides in the order of a round: each round begins with another one."""
    if not sides:
        return []
    first = number % len(sides)
    return [*sides[first:], *sides[:first]]


def total(workloads: Sequence[Workload], plan: Plan) -> int:
    """Return how many samples a run has."""
    return sum(
        len(case.sides) * plan.repeat for workload in workloads for case in workload.cases(plan)
    )


@dataclass
class Run:
    """
    One run; ``results`` grows with each sample.

    :param progress: told before each sample what it is, and once at the end
    """

    server: BenchServer
    plan: Plan
    results: Results
    progress: Callable[[str], object]
    _failed: set[tuple[str, str, Side]] = field(default_factory=set)

    def measure(self, workloads: Sequence[Workload]) -> None:
        """Measure everything."""
        for workload in workloads:
            cases = workload.cases(self.plan)
            # A round has all cases, because some are compared with each other.
            for number in range(self.plan.repeat):
                for case in cases:
                    self._round(workload.name, case, number)
        self.progress("done")
        self.results.complete = True

    def _round(self, workload: str, case: Case, number: int) -> None:
        for side in order(case.sides, number):
            self.progress(f"{workload}: {case.name}: {side.key} ({number + 1}/{self.plan.repeat})")
            if (workload, case.name, side) in self._failed:
                continue
            metrics = self._sample(case, side)
            if "error" in metrics:
                # Once is enough to know; the others need not wait for it again.
                self._failed.add((workload, case.name, side))
            sample = Sample(workload, case.name, side.key, number, metrics)
            self.results.samples.append(sample)

    def _sample(self, case: Case, side: Side) -> Metrics:
        try:
            return case.run(self.server, side)
        except WorkerFailed as error:
            return {"error": str(error)}
        except Exception as error:  # noqa: BLE001  # the other figures must not be lost
            return {"error": in_one_line(error)}
