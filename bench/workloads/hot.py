"""Many tasks want one name: how fast it goes round, and who gets it."""

# ruff: noqa: RUF001  # the multiplication sign and the dash are meant

from __future__ import annotations

from collections.abc import Sequence

from bench import measure
from bench.peers.catalog import LOCKS, MUTEX, REFERENCE, Side
from bench.plan import Case, Plan, Workload
from bench.results import Metrics
from bench.server import BenchServer
from bench.worker.spec import Spec

PROCESSES = 4


def case_name(tasks: int, body: float, processes: int = 1) -> str:
    """Return what a case is called."""
    where = f"{tasks} tasks" if processes == 1 else f"{processes} × {tasks} tasks"
    return f"{where}, {'one turn' if body == 0 else f'{body * 1000:g} ms'}"


def _cases(plan: Plan) -> Sequence[Case]:
    cases = []
    sizes = (50,) if plan.quick else (50, 200)
    for tasks in sizes:
        others = LOCKS if tasks == 50 and not plan.quick else ()
        for body in (0.0, 0.001):
            sides = plan.sides(*plan.ours, REFERENCE, MUTEX, *others, slow=body > 0)
            cases.append(_case(plan, tasks, body, sides))
    for tasks in sizes:
        others = LOCKS if tasks == 50 and not plan.quick else ()
        for body in (0.0,) if plan.quick else (0.0, 0.001):
            sides = plan.sides(*plan.ours, REFERENCE, *others, slow=True)
            spread = [side for side in sides if side.info.processes]
            cases.append(_case(plan, tasks, body, spread, PROCESSES))
    return cases


def _case(plan: Plan, tasks: int, body: float, sides: Sequence[Side], processes: int = 1) -> Case:
    # With 1 ms a turn of 800 tasks takes 0.8 s, and whom a poller starves waits for
    # more: the shorter the window, the more of those waits it cuts off.
    seconds = plan.seconds(2.4, 0.8) if body else plan.seconds(0.8, 0.4)

    def run(server: BenchServer, side: Side) -> Metrics:
        spec = Spec(
            "cycles",
            "",
            server.url,
            tasks=tasks,
            hot=True,
            body=body,
            seconds=seconds,
            warmup=plan.seconds(0.3, 0.2),
        )
        return measure.cycles(server, side, spec, processes)

    measured = [side for side in sides if tasks <= side.info.most_tasks]
    return Case(case_name(tasks, body, processes), measured, run)


HOT = Workload("hot", "many tasks on one name; critical section of one loop turn or 1 ms", _cases)
