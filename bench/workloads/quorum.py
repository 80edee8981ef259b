"""Acquire and release on a quorum of five nodes, also with two of them gone."""

from __future__ import annotations

import time
from collections.abc import Sequence

from bench import measure
from bench.peers.catalog import OURS, Side
from bench.plan import Case, Plan, Workload
from bench.quorum import BenchQuorum
from bench.results import Metrics
from bench.server import BenchServer
from bench.worker.spec import Spec

PEERS = ("pottery", "aioredlock", "node-redlock")
"""The other locks that know Redlock."""

FATES = {"killed": BenchServer.kill, "frozen": BenchServer.freeze}

GONE = 2
"""How many nodes of five may be gone."""

NOTICED = 1.5
"""Seconds from the loss of nodes to the window: their connections are found dead."""

SLOWEST = 450
"""Cycles a second of the slowest lock here, about: see :meth:`Plan.window`."""


def case_name(tasks: int, fate: str = "") -> str:
    """Return what the case of so many tasks is called."""
    what = "1 task" if tasks == 1 else f"{tasks} tasks"
    return f"{what}, {GONE} nodes {fate}" if fate else what


def _cases(plan: Plan) -> Sequence[Case]:
    cases = [_case(plan, tasks, "", plan.sides(OURS, *PEERS, slow=True)) for tasks in (1, 64)]
    ours = [side for side in plan.sides(OURS) if side.loop == "asyncio"]
    fates, sizes = (["killed"], [64]) if plan.quick else (list(FATES), [1, 64])
    return [*cases, *(_case(plan, tasks, fate, ours) for fate in fates for tasks in sizes)]


def _case(plan: Plan, tasks: int, fate: str, sides: Sequence[Side]) -> Case:
    def run(_server: BenchServer, side: Side) -> Metrics:
        with BenchQuorum() as quorum:
            spec = Spec(
                "cycles",
                "",
                quorum.url,
                tasks=tasks,
                seconds=plan.window(tasks, SLOWEST),
                warmup=0.2,
            )

            def strike() -> None:
                if fate:
                    quorum.take_out(FATES[fate], GONE)
                    time.sleep(NOTICED)

            return measure.cycles(quorum, side, spec, before_go=strike)

    return Case(case_name(tasks, fate), sides, run)


QUORUM = Workload("quorum", "acquire + release on 5 nodes, each task on a name of its own", _cases)
