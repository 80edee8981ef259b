"""How close the library is to what the server and its own pipe can do."""

from __future__ import annotations

from collections.abc import Sequence

from bench import bare, measure
from bench.peers.catalog import OURS, Side
from bench.plan import Case, Plan, Workload
from bench.results import Metrics
from bench.server import BenchServer
from bench.worker.spec import Spec

BARE = "redis-benchmark"
PIPE = "pipe"

SLOWEST = 27_000
"""Cycles a second of the slowest lock here, about: see :meth:`Plan.window`."""


def case_name(at_a_time: int) -> str:
    """Return what the case of so many requests under way is called."""
    return f"{at_a_time} at a time"


def _cases(plan: Plan) -> Sequence[Case]:
    sizes = (1, 64) if plan.quick else (1, 64, 1024)
    return [_case(plan, size) for size in sizes]


def _case(plan: Plan, size: int) -> Case:
    def run(server: BenchServer, side: Side) -> Metrics:
        if side.peer == BARE:
            # One client and one request, or its default of 50 clients, with a pipeline.
            clients, pipelined = (1, 1) if size == 1 else (50, 16)
            requests = (4_000 if size == 1 else 10_000) if plan.quick else 30_000
            return bare.measure(server, clients, pipelined, requests)
        spec = Spec(
            "pipe" if side.peer == PIPE else "cycles",
            "",
            server.url,
            tasks=size,
            seconds=plan.window(size, SLOWEST),
            warmup=0.2,
        )
        return measure.cycles(server, side, spec)

    ours = [side for side in plan.sides(OURS) if side.loop == "asyncio"]
    sides = [*ours, *(plan.sides(PIPE) if ours else ())]
    if size < 1024:
        sides += plan.sides(BARE)
    return Case(case_name(size), sides, run)


LIMIT = Workload(
    "limit", "the same scripts in redis-benchmark, and empty round trips in our pipe", _cases
)
