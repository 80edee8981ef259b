"""The ledger: events of hot and cold wallets, four processes, one of them killed."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice

from bench.peers.catalog import LINGERING, REFERENCE, Side
from bench.plan import Case, Plan, Workload
from bench.processes import Worker
from bench.results import Metrics
from bench.server import BenchServer
from bench.worker.ledger import END_WITHIN, routes, sample, stream
from bench.worker.spec import Spec
from bench.worker.wallets import PROCESSES, Wallets

SHARES = (1.0, 0.9, 0.25)
"""Of the events that come to the process that had their wallet before; the last is by chance."""

TASKS = 32
"""Of each process."""

TTL = 1.0
"""Seconds: for so long a dead process keeps its wallets from the others."""


def case_name(share: float) -> str:
    """Return what the case is called where so many wallets come back to their process."""
    return f"{share:.0%} come back"


def _cases(plan: Plan) -> Sequence[Case]:
    peers = [LINGERING] if plan.quick else [*plan.ours, LINGERING, REFERENCE]
    sides = [side for side in plan.sides(*peers) if side.loop == "asyncio"]
    seconds = plan.seconds(6.0, 1.0)

    def case(share: float) -> Case:
        def run(server: BenchServer, side: Side) -> Metrics:
            return measure(server, side, share, seconds)

        return Case(case_name(share), sides, run)

    return [case(share) for share in (SHARES[:1] if plan.quick else SHARES)]


def measure(server: BenchServer, side: Side, share: float, seconds: float) -> Metrics:
    """Measure a side; in the middle its first process, which has the hottest wallet, is killed."""
    server.clear()
    _, names = sample()
    with ExitStack() as stack:
        file = stack.enter_context(tempfile.NamedTemporaryFile(prefix="aiodistlock-bench-"))
        file.truncate(Wallets.size(len(names)))
        store = Wallets(file.name, len(names))
        spec = Spec("ledger", "", server.url, tasks=TASKS, seconds=seconds, ttl=TTL)
        workers = []
        for number in range(PROCESSES):
            one = replace(spec, share=share, page=file.name, number=number)
            workers.append(stack.enter_context(Worker(side, one, 30.0 + END_WITHIN)))
        for worker in workers:
            worker.hear()
        first, *others = workers
        before = server.read()
        began = time.perf_counter()
        for worker in workers:
            worker.tell("go")
        time.sleep(seconds / 2)
        first.kill()
        killed, until_then = time.perf_counter(), store.count()
        for worker in others:
            worker.tell("dead 0")
        time.sleep(max(0.0, began + seconds - time.perf_counter()))
        ended, applied, after = time.perf_counter(), store.count(), server.read()
        for worker in others:
            worker.tell("stop")
        figures = [worker.hear() for worker in others]
        done = max(1, sum(each["applied"] for each in figures))
        return {
            "rate": applied / (ended - began),
            "before": until_then / (killed - began),
            "after": (applied - until_then) / (ended - killed),
            "requests": after.requests_since(before, side.info.requests) / max(1, applied),
            "server_us": (after.cpu - before.cpu) / max(1, applied) * 1e6,
            "client_us": sum(each["client_cpu"] for each in figures) / done * 1e6,
            "losses": sum(each["losses"] for each in figures),
            **audit(store, share),
        }


def audit(store: Wallets, share: float) -> Metrics:
    """Return by how much balances are wrong, and how many events the dead process took along."""
    events, _ = sample()
    true = [0] * store.wallets
    for event in store.all_applied():
        wallet, cents = events[event % len(events)]
        true[wallet] += cents
    wrong = [abs(store.balance(wallet) - cents) for wallet, cents in enumerate(true)]
    begun = islice(stream(routes(share)[0]), store.took(0))
    missing = sum(not store.applied(event) for event in begun)
    return {"wrong_cents": sum(wrong), "missing": missing}


LEDGER = Workload("ledger", "events of wallets, four processes, one of them killed", _cases)
