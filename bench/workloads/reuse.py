"""A process comes back to its names before another one wants them, or after."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from bench import measure
from bench.peers.catalog import AUTO, LINGERING, REFERENCE, Side
from bench.plan import Case, Plan, Workload
from bench.processes import Worker
from bench.results import Metrics
from bench.server import BenchServer
from bench.worker.record import histogram, quantile
from bench.worker.spec import Spec
from bench.workloads.throughput import SLOWEST, case_name

SIZES = (1, 64)

ASKED_BACK = "asked back"

IN_TURNS = "2 processes in turns"

PAUSE = 0.001
"""Mean pause of each between two turns, seconds."""


def _cases(plan: Plan) -> Sequence[Case]:
    sides = [
        side
        for side in plan.sides(*plan.ours, LINGERING, AUTO, REFERENCE)
        if side.loop == "asyncio"
    ]
    ours = [side for side in sides if side.peer != REFERENCE]

    def in_turns(server: BenchServer, side: Side) -> Metrics:
        spec = Spec("cycles", "", server.url, hot=True, pause=PAUSE, seconds=1.5, warmup=0.2)
        return measure.cycles(server, side, spec, 2)

    if plan.quick:
        return [_case(plan, SIZES[0], [side for side in sides if side.peer != AUTO])]
    return [
        *(_case(plan, tasks, sides) for tasks in SIZES),
        Case(ASKED_BACK, ours, ask_back),
        Case(IN_TURNS, sides, in_turns),
    ]


def _case(plan: Plan, tasks: int, sides: Sequence[Side]) -> Case:
    def run(server: BenchServer, side: Side) -> Metrics:
        seconds = plan.window(tasks, SLOWEST)
        spec = Spec("cycles", "", server.url, tasks=tasks, seconds=seconds, warmup=0.2)
        return measure.cycles(server, side, spec)

    return Case(case_name(tasks), sides, run)


def ask_back(server: BenchServer, side: Side, times: int = 100) -> Metrics:
    """Measure how long a process waits for a lock that another has just released."""
    server.clear()
    spec = Spec("handoff", "", server.url, hot=True, seconds=0.0, warmup=0.0)
    waits: list[float] = []
    with ExitStack() as stack:
        former, other = (stack.enter_context(Worker(side, spec, 15.0)) for _ in range(2))
        for worker in (former, other):
            worker.hear()
        for _ in range(2 + times):  # the first ones load scripts and open connections
            _use(former)
            waits.append(_use(other))
            former, other = other, former
        for worker in (former, other):
            worker.tell("quit")
    ordered = sorted(waits[2:])
    return {
        "p50": quantile(ordered, 0.5),
        "p99": quantile(ordered, 0.99),
        "histogram": histogram(ordered),
    }


def _use(worker: Worker) -> float:
    """Have a worker hold the lock for a moment; return how long it waited, seconds."""
    worker.tell("acquire")
    told = worker.hear()
    worker.tell("release")
    worker.hear()
    return float(told["at"] - told["asked"])


REUSE = Workload("reuse", "each task locks a name of its own again and again", _cases)
