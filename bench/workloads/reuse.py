"""A process comes back to its names before another one wants them."""

from __future__ import annotations

from collections.abc import Sequence

from bench import measure
from bench.peers.catalog import LINGERING, REFERENCE, Side
from bench.plan import Case, Plan, Workload
from bench.results import Metrics
from bench.server import BenchServer
from bench.worker.spec import Spec
from bench.workloads.throughput import SLOWEST, case_name

SIZES = (1, 64)


def _cases(plan: Plan) -> Sequence[Case]:
    sides = [
        side for side in plan.sides(*plan.ours, LINGERING, REFERENCE) if side.loop == "asyncio"
    ]
    return [_case(plan, tasks, sides) for tasks in (SIZES[:1] if plan.quick else SIZES)]


def _case(plan: Plan, tasks: int, sides: Sequence[Side]) -> Case:
    def run(server: BenchServer, side: Side) -> Metrics:
        seconds = plan.window(tasks, SLOWEST)
        spec = Spec("cycles", "", server.url, tasks=tasks, seconds=seconds, warmup=0.2)
        return measure.cycles(server, side, spec)

    return Case(case_name(tasks), sides, run)


REUSE = Workload("reuse", "each task locks a name of its own again and again", _cases)
