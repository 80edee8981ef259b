"""Many clients wait for one name: what each of them costs those that come before it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from bench.peers.catalog import REFERENCE, Side
from bench.plan import Case, Plan, Workload
from bench.processes import workers
from bench.results import Metrics
from bench.server import BenchServer
from bench.worker.record import quantile
from bench.worker.spec import Spec

SIZES = (10, 100, 1000, 5000)

BODY = 0.001

PROCESSES = 2
"""Over which the clients are spread: as many as there are cores, mostly."""

MOST_POLLERS = 1000
"""More of them leave no time for anything else: ten polls a second each."""

PACE = 300
"""Hand-offs a second, about: everybody has a turn in the warm-up, and in the window."""


def case_name(clients: int) -> str:
    """Return what the case of so many clients is called."""
    return f"{clients:,} clients"


def _cases(plan: Plan) -> Sequence[Case]:
    sizes = (10, 1000) if plan.quick else SIZES
    return [_case(plan, clients) for clients in sizes]


def _case(plan: Plan, clients: int) -> Case:
    turn = clients / PACE

    def run(server: BenchServer, side: Side) -> Metrics:
        spec = Spec(
            "herd",
            "",
            server.url,
            tasks=clients // PROCESSES,
            hot=True,
            body=BODY,
            seconds=max(plan.seconds(2.0, 0.5), turn),
            warmup=max(0.5, turn),
        )
        return _measure(server, side, spec)

    reference = (REFERENCE,) if clients <= (100 if plan.quick else MOST_POLLERS) else ()
    sides = plan.sides(*plan.ours, *reference)
    # One connection for each: the loop has little to read at a time.
    return Case(case_name(clients), [side for side in sides if side.loop != "uvloop"], run)


def _measure(server: BenchServer, side: Side, spec: Spec) -> Metrics:
    server.clear()
    with workers(side, [spec] * PROCESSES) as started:
        connected = server.redis.info("clients")["connected_clients"]
        before = server.read()
        for worker in started:
            worker.tell("go")
        figures = [worker.hear() for worker in started]
        after = server.read()
    metrics = combine(figures)
    done = max(1, metrics["cycles"])
    return {
        **metrics,
        "connected": connected,
        "requests": after.requests_since(before, side.info.requests) / done,
        "server_us": (after.cpu - before.cpu) / done * 1e6,
    }


def combine(figures: Iterable[dict[str, Any]]) -> Metrics:
    """
    Put the workers' figures together.

    A gap is from right before a release to the next body, whoever's that is: processes
    share the clock.  One below 0 is an overlap.
    """
    figures = list(figures)
    inside = sorted((entered, left) for each in figures for entered, left in each["inside"])
    gaps = sorted(entered - left for (_, left), (entered, _) in pairwise(inside))
    return {
        "rate": len(inside) / max(each["seconds"] for each in figures),
        "cycles": len(inside),
        "p50": quantile(gaps, 0.5),
        "p99": quantile(gaps, 0.99),
        "longest": gaps[-1] if gaps else 0.0,
        "overlaps": sum(gap < 0 for gap in gaps),
        "client_us": sum(each["client_cpu"] for each in figures) / max(1, len(inside)) * 1e6,
    }


HERD = Workload("herd", "many clients wait for one name, a connection each, bodies of 1 ms", _cases)
