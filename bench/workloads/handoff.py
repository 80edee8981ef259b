"""From the release in one process to the body running in another."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from contextlib import ExitStack

from bench.peers.catalog import LOCKS, REFERENCE, Side
from bench.plan import Case, Plan, Workload
from bench.processes import Worker
from bench.results import Metrics
from bench.server import BenchServer
from bench.worker.record import histogram, quantile
from bench.worker.spec import Spec

CASE = "two processes"

PAUSES = (0.02, 0.12)
"""Seconds for which the other process waits, at random: who polls every 100 ms is met at
every moment of its pause."""


def _cases(plan: Plan) -> Sequence[Case]:
    others = ("python-redis-lock",) if plan.quick else LOCKS
    handoffs = 8 if plan.quick else 20

    def run(server: BenchServer, side: Side) -> Metrics:
        spec = Spec("handoff", "", server.url, hot=True, seconds=0.0, warmup=0.0)
        return hand_overs(server, side, spec, handoffs)

    return [Case(CASE, plan.sides(*plan.ours, REFERENCE, *others, slow=True), run)]


def hand_overs(server: BenchServer, side: Side, spec: Spec, handoffs: int) -> Metrics:
    """Measure how long it takes from a release to the body in the other process."""
    server.clear()
    rng = random.Random()
    with ExitStack() as stack:
        holder, waiter = (stack.enter_context(Worker(side, spec, 15.0)) for _ in range(2))
        for worker in (holder, waiter):
            worker.hear()
        # The first ones load scripts and open connections, on both sides.
        for _ in range(2):
            _hand_over(holder, waiter, rng)
            holder, waiter = waiter, holder
        times = []
        for _ in range(handoffs):
            times.append(_hand_over(holder, waiter, rng))
            holder, waiter = waiter, holder
        for worker in (holder, waiter):
            worker.tell("quit")
    return of_few(times)


def of_few(times: list[float]) -> Metrics:
    """Return the figures of a few durations, seconds."""
    ordered = sorted(times)
    return {
        "p50": quantile(ordered, 0.5),
        # No p99: of so few it is the longest.  That of all rounds is taken from the times.
        "longest": ordered[-1],
        "times": times,
        "histogram": histogram(times),
    }


def _hand_over(holder: Worker, waiter: Worker, rng: random.Random) -> float:
    """Return the seconds from the holder's release to the waiter's body."""
    holder.tell("acquire")
    holder.hear()
    waiter.tell("acquire")
    time.sleep(rng.uniform(*PAUSES))
    holder.tell("release")
    released = holder.hear()["at"]
    entered = waiter.hear()["at"]
    waiter.tell("release")
    waiter.hear()
    return float(entered - released)


HANDOFF = Workload("handoff", "release in process A to running in process B", _cases)
