"""The lock's siblings, each beside what a service writes by hand on redis-py."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack

from bench import measure
from bench.peers.catalog import REFERENCE, SEMAPHORE, Side
from bench.peers.siblings import LIMIT, NAMES, READING, SUBSET
from bench.plan import Case, Plan, Workload
from bench.processes import Worker
from bench.results import Metrics
from bench.server import BenchServer
from bench.worker.spec import Spec
from bench.workloads.handoff import PAUSES, hand_overs, of_few

TASKS = 64

ONCE = f"once, {TASKS} tasks: a window each"
DONE = f"once, {TASKS} tasks: done already"
RESIGNED = "election: the leader resigns"
TTL = 1.0
KILLED = f"election: the leader is killed, ttl {TTL:g} s"
FREE = f"together, {TASKS} tasks: {NAMES} free names"
CONTENDED = f"together, {TASKS} tasks: {SUBSET} of {NAMES} names"
PERMITS = f"semaphore, {TASKS} tasks: limit {LIMIT}"
MIXED = f"rwlock, {TASKS} tasks: {READING:.0%} read"
READERS = f"rwlock, {TASKS} tasks: all read"

SLOWEST = 300
"""Cycles a second of the slowest side, about: see :meth:`Plan.window`."""


def _cases(plan: Plan) -> Sequence[Case]:
    sides = [side for side in plan.sides(*plan.ours, REFERENCE) if side.loop == "asyncio"]
    seconds = plan.window(TASKS, SLOWEST)

    def cycling(name: str, kind: str, sibling: str, *others: str, hot: bool = False) -> Case:
        def run(server: BenchServer, side: Side) -> Metrics:
            spec = Spec(
                kind, "", server.url, sibling=sibling, tasks=TASKS, hot=hot, seconds=seconds,
                body=0.0 if hot else None, warmup=0.2,
            )  # fmt: skip
            metrics = measure.cycles(server, side, spec)
            if kind == "windows":
                # Not comparable: of redis-py's GETs the server counts those of its scripts, too.
                del metrics["requests"]
            return metrics

        return Case(name, [*sides, *plan.sides(*others)], run)

    def resigned(server: BenchServer, side: Side) -> Metrics:
        return hand_overs(server, side, _candidate(server), 8 if plan.quick else 20)

    some = [
        cycling(ONCE, "windows", "windows"),
        Case(RESIGNED, sides, resigned),
        cycling(FREE, "cycles", "together"),
        cycling(PERMITS, "places", "semaphore", SEMAPHORE, hot=True),
        cycling(MIXED, "places", "readwrite", hot=True),
    ]
    if plan.quick:
        return some
    return [
        *some,
        cycling(DONE, "windows", "windows", hot=True),
        Case(KILLED, sides, killed),
        cycling(CONTENDED, "cycles", "subsets", hot=True),
        cycling(READERS, "places", "readers", hot=True),
    ]


def _candidate(server: BenchServer, ttl: float = 10.0) -> Spec:
    return Spec(
        "handoff", "", server.url, sibling="election", hot=True, seconds=0.0, warmup=0.0, ttl=ttl
    )


def killed(server: BenchServer, side: Side, times: int = 4, ttl: float = TTL) -> Metrics:
    """Measure how long nobody leads after a leader is killed."""
    server.clear()
    spec = _candidate(server, ttl)
    took = []
    with ExitStack() as stack:
        # All are there beforehand: to start one takes longer than a lease without renewal lasts.
        leader, *others = (stack.enter_context(Worker(side, spec, 15.0)) for _ in range(times + 1))
        for worker in (leader, *others):
            worker.hear()
            worker.tell("acquire")
            worker.hear()
            worker.tell("release")  # loads scripts, opens the connection
            worker.hear()
        leader.tell("acquire")
        leader.hear()
        for successor in others:
            successor.tell("acquire")
            time.sleep(PAUSES[1])
            killed_at = time.monotonic()
            leader.kill()
            took.append(float(successor.hear()["at"]) - killed_at)
            leader = successor
    return of_few(took)


SIBLINGS = Workload(
    "siblings",
    "once, elections, several names, permits, readers and writers, beside the same by hand",
    _cases,
)
