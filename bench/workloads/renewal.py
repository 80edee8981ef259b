"""Many leases held for long: what keeping them costs."""

from __future__ import annotations

from collections.abc import Sequence

from bench.peers.catalog import REFERENCE, Side
from bench.plan import Case, Plan, Workload
from bench.processes import Worker
from bench.results import Metrics
from bench.server import BenchServer
from bench.worker.spec import Spec

TTL = 6.0


def case_name(leases: int) -> str:
    """Return what the case of so many leases is called."""
    return f"{leases:,} leases"


def _cases(plan: Plan) -> Sequence[Case]:
    # Whatever the loop, it hardly runs here.
    sides = [side for side in plan.sides(*plan.ours, REFERENCE) if side.loop != "uvloop"]
    return [_case(plan, leases, sides) for leases in ((1000,) if plan.quick else (1000, 10_000))]


def _case(plan: Plan, leases: int, sides: Sequence[Side]) -> Case:
    def run(server: BenchServer, side: Side) -> Metrics:
        spec = Spec(
            "renewal",
            "",
            server.url,
            tasks=leases,
            ttl=TTL,
            seconds=plan.seconds(10.0, TTL / 3),
            warmup=plan.seconds(TTL / 3, 0.2),
        )
        return _measure(server, side, spec)

    return Case(case_name(leases), sides, run)


def _measure(server: BenchServer, side: Side, spec: Spec) -> Metrics:
    server.clear()
    with Worker(side, spec, 120.0) as worker:
        worker.hear()
        before = server.read()
        worker.tell("go")
        figures = worker.hear()
        after = server.read()
        figures |= worker.hear()
        worker.finish(1.0)
    # What a renewal of either's comes to at the server, however many travel in one request.
    renewals = max(1, after.requests_since(before, ("pexpire",)))
    took = figures["seconds"]
    return {
        "client_cpu": figures["client_cpu"] / took,
        "server_cpu": (after.cpu - before.cpu) / took,
        "requests_rate": after.requests_since(before, side.info.requests) / took,
        "client_us": figures["client_cpu"] / renewals * 1e6,
        "server_us": (after.cpu - before.cpu) / renewals * 1e6,
        "bytes": figures["bytes"],
        "lag_p99": figures["lag_p99"],
        "lag_longest": figures["lag_longest"],
        "lost": figures["lost"],
        "losses": figures["losses"],
    }


RENEWAL = Workload("renewal", f"leases held and renewed at ttl {TTL:g} s", _cases)
