"""Acquire and release on names of their own: nobody contends."""

from __future__ import annotations

import os
from collections.abc import Sequence

from bench import measure
from bench.peers.catalog import LOCKS, REFERENCE, Side
from bench.plan import Case, Plan, Workload
from bench.results import Metrics
from bench.server import BenchServer
from bench.worker.spec import Spec

SLOWEST = 2000
"""Cycles a second of the slowest lock here, about: see :meth:`Plan.window`."""


def case_name(tasks: int) -> str:
    """Return what the case of so many tasks is called."""
    return "1 task" if tasks == 1 else f"{tasks} tasks"


def _cases(plan: Plan) -> Sequence[Case]:
    sizes = (1, 64, 1024) if plan.quick else (1, 16, 64, 256, 1024)
    # Some take long to start: they are measured at both ends and in the middle.
    everybody = (64,) if plan.quick else (1, 64, 1024)
    return [
        _case(
            plan, tasks, plan.sides(*plan.ours, REFERENCE, *(LOCKS if tasks in everybody else ()))
        )
        for tasks in sizes
    ]


def _case(plan: Plan, tasks: int, sides: Sequence[Side]) -> Case:
    # One task waits for the server and the server for it: which core each is on, and
    # whether they share it, decides more than the code.  So there both are pinned.
    pinned = tasks == 1 and hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1

    def run(server: BenchServer, side: Side) -> Metrics:
        spec = Spec(
            "cycles",
            "",
            server.url,
            tasks=tasks,
            seconds=plan.window(tasks, SLOWEST),
            warmup=0.2,
            cpu=1 if pinned else None,
        )
        return measure.cycles(server, side, spec, core=0 if pinned else None)

    measured = [side for side in sides if tasks <= side.info.most_tasks]
    return Case(case_name(tasks), measured, run)


THROUGHPUT = Workload("throughput", "acquire + release, each task on a name of its own", _cases)
