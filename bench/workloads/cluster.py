"""Acquire and release on a cluster: names on one primary, and on all three."""

from __future__ import annotations

from collections.abc import Sequence

from bench import measure
from bench.cluster import PRIMARIES, BenchCluster, names
from bench.peers.catalog import ON_ALL, ON_ONE, Side
from bench.plan import Case, Plan, Workload
from bench.results import Metrics
from bench.server import BenchServer
from bench.worker.spec import Spec

NAMESPACE = "lock:"
"""What our locks put before their names."""

SLOWEST = 29_000
"""Cycles a second of the slowest lock here, about: see :meth:`Plan.window`."""


def case_name(tasks: int, processes: int = 1) -> str:
    """Return what the case of so many tasks in each process is called."""
    return f"{tasks} tasks" if processes == 1 else f"{processes} processes of {tasks} tasks"


def _cases(plan: Plan) -> Sequence[Case]:
    sizes = [(64, 1), (64, 3)] if plan.quick else [(64, 1), (1024, 1), (64, 3)]
    sides = plan.sides(ON_ONE, ON_ALL)
    return [_case(plan, tasks, processes, sides) for tasks, processes in sizes]


def _case(plan: Plan, tasks: int, processes: int, sides: Sequence[Side]) -> Case:
    def run(_server: BenchServer, side: Side) -> Metrics:
        primaries = 1 if side.peer == ON_ONE else PRIMARIES
        with BenchCluster() as cluster:
            spec = Spec(
                "cycles",
                "",
                cluster.url,
                tasks=tasks,
                names=names(primaries, tasks * processes, NAMESPACE),
                seconds=plan.window(tasks, SLOWEST),
                warmup=0.2,
            )
            return measure.cycles(cluster, side, spec, processes)

    return Case(case_name(tasks, processes), sides, run)


CLUSTER = Workload(
    "cluster", "acquire + release on a cluster, each task on a name of its own", _cases
)
