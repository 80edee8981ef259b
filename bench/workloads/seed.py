"""The table that this project answers: strategy, operations a second, p99."""

from __future__ import annotations

from collections.abc import Sequence

from bench import measure
from bench.peers.catalog import LINGERING, OURS, PEERS, Side
from bench.plan import Case, Plan, Workload
from bench.quorum import BenchQuorum
from bench.results import Metrics
from bench.server import BenchEtcd, BenchServer
from bench.worker.spec import Spec

TASKS = 64

CASE = f"{TASKS} tasks"

SLOWEST = 1400
"""Cycles a second of the slowest lock here, about: see :meth:`Plan.window`."""

ROWS = (
    ("In-memory mutex", "mutex", "1,200,000", "< 0.1"),
    ("Naive Redis SETNX", "setnx", "15,000", "4"),
    ("AsyncLock, one Redis", OURS, "12,500", "6"),
    ("AsyncLock, lingering", LINGERING, "", ""),
    ("Quorum over 5 nodes", "quorum", "", ""),
    ("etcd v3", "etcd", "4,200", "18"),
)
"""Strategy, peer, published operations/s and p99 in ms."""

PUBLISHED = (
    "The published figures are those that the project was given to answer. Their machine, "
    "load and versions are not told, so they are another machine's, not a comparison."
)


def _cases(plan: Plan) -> Sequence[Case]:
    peers = [peer for _, peer, _, _ in ROWS]
    sides = [side for side in plan.sides(*peers) if side.loop == "asyncio"]

    def run(server: BenchServer, side: Side) -> Metrics:
        spec = Spec(
            "cycles", "", server.url, tasks=TASKS, seconds=plan.window(TASKS, SLOWEST), warmup=0.2
        )
        if side.info is PEERS["quorum"]:
            with BenchQuorum() as quorum:
                return measure.cycles(quorum, side, spec.at(quorum.url))
        if side.info is not PEERS["etcd"]:
            return measure.cycles(server, side, spec)
        with BenchEtcd() as etcd:
            return measure.cycles(server, side, spec.at(etcd.url))

    return [Case(CASE, sides, run)]


SEED = Workload("seed", "six strategies, 64 tasks on names of their own", _cases)
