"""What the bench must show, and whether it does: each row is computed from samples."""

# ruff: noqa: RUF001  # the multiplication sign and the dash are meant

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from bench.peers.catalog import AUTO, LINGERING, MUTEX, ON_ALL, ON_ONE, OURS, REFERENCE
from bench.results import Results
from bench.stats import Interval
from bench.workloads import (
    cluster,
    handoff,
    herd,
    hot,
    ledger,
    limit,
    quorum,
    renewal,
    reuse,
    siblings,
    throughput,
)

OURS_UVLOOP = f"{OURS}/uvloop"


@dataclass(frozen=True)
class Measured:
    """A value with the text that shows it; ``None`` if it was not measured."""

    value: float | None
    text: str


@dataclass(frozen=True)
class Target:
    """
    One row of the table.

    :ivar bound: the value must be at least that, or at most
    """

    what: str
    bound: float
    at_least: bool
    shown: str
    measure: Callable[[Results], Measured]

    def met(self, results: Results) -> bool | None:
        """Tell whether the target is met; ``None`` if it was not measured."""
        value = self.measure(results).value
        if value is None:
            return None
        return value >= self.bound if self.at_least else value <= self.bound


class Unit(NamedTuple):
    """How a metric is shown: its factor, and what follows the number."""

    factor: float
    name: str


MS = Unit(1e3, " ms")

NOTHING = Measured(None, "not measured")


def _ratio(found: Interval | None, *, inverse: bool = False) -> Measured:
    """Show a ratio; ``inverse`` as 1/x."""
    if found is None:
        return NOTHING
    if inverse:
        return _shown(found, lambda value: f"1/{1 / value:.3g}" if value else "0")
    return _shown(found, lambda value: f"{value:.3g}", " ×")


def _shown(found: Interval, show: Callable[[float], str], unit: str = "") -> Measured:
    """Show a median with its interval; a single value is no interval."""
    told = show(found.median) + unit
    if found.samples > 1:
        told += f" ({show(found.low)} to {show(found.high)})"
    return Measured(found.median, told)


def _rate(workload: str, case: str, side: str, reference: str, results: Results) -> Measured:
    return _ratio(results.ratio(workload, case, "rate", side, reference))


def _against(workload: str, case: str, metric: str, reference: str, results: Results) -> Measured:
    return _ratio(results.ratio(workload, case, metric, OURS, reference), inverse=True)


def _plain(
    workload: str, case: str, metric: str, unit: Unit, results: Results, *, side: str = OURS
) -> Measured:
    found = results.interval(workload, case, side, metric)
    if found is None:
        return NOTHING
    shown = _shown(found, lambda value: f"{value * unit.factor:.3g}", unit.name)
    return Measured(found.median * unit.factor, shown.text)


def _worst(workload: str, case: str, metric: str, unit: Unit, results: Results) -> Measured:
    values = results.by_round(workload, case, OURS, metric).values()
    if not values:
        return NOTHING
    return Measured(
        max(values) * unit.factor, f"{max(values) * unit.factor:.3g}{unit.name} in the worst round"
    )


def _uneven(case: str, results: Results) -> Measured:
    """Return by how much a process's share of the cycles was off, at most, in per cent."""
    found = results.of("hot", case, OURS)
    if not found:
        return NOTHING
    totals = [
        sum(shares) / len(found)
        for shares in zip(*(s.metrics["shares"] for s in found), strict=True)
    ]
    fair = 1 / len(totals)
    shown = ", ".join(f"{100 * share:.1f}" for share in totals)
    return Measured(100 * max(abs(share - fair) for share in totals), f"{shown} %")


def _throughput() -> Iterator[Target]:
    one, some, many = (throughput.case_name(tasks) for tasks in (1, 64, 1024))
    rows = ((one, OURS, 1.2), (some, OURS, 9), (many, OURS, 18))
    for case, side, bound in (*rows, (some, OURS_UVLOOP, 12), (many, OURS_UVLOOP, 22)):
        loop = ", uvloop (redis-py on asyncio)" if side == OURS_UVLOOP else ""
        measure = partial(_rate, "throughput", case, side, REFERENCE)
        pinned = " (both pinned)" if case == one else ""
        yield Target(f"{case}{pinned}{loop}: rate", bound, True, f"≥ {bound:g} ×", measure)
        if case == some and side == OURS:
            p99 = partial(_plain, "throughput", some, "p99", MS)
            yield Target(f"{case}: acquire p99", 1.0, False, "≤ 1 ms", p99)


def _reuse() -> Iterator[Target]:
    one, some = (throughput.case_name(tasks) for tasks in reuse.SIZES)
    for case, bound, reference in ((one, 25, REFERENCE), (one, 12, OURS), (some, 2, OURS)):
        measure = partial(_rate, "reuse", case, LINGERING, reference)
        name = "redis-py" if reference == REFERENCE else "without"
        yield Target(f"lingering, {case}: rate", bound, True, f"≥ {bound:g} × {name}", measure)
    cpu = partial(_plain, "reuse", one, "client_us", Unit(1, " µs"), side=LINGERING)
    yield Target(f"lingering, {one}: client CPU per cycle", 8, False, "≤ 8 µs", cpu)
    asked = partial(_plain, "reuse", reuse.ASKED_BACK, "p50", MS, side=LINGERING)
    yield Target("lingering, asked back: p50", 1.2, False, "≤ 1.2 ms", asked)
    turns = partial(_rate, "reuse", reuse.IN_TURNS, AUTO, OURS)
    yield Target(f"linger auto, {reuse.IN_TURNS}: rate", 0.95, True, "≥ 0.95 × without", turns)


def _ledger() -> Iterator[Target]:
    case = ledger.case_name(1.0)
    rate = partial(_plain, "ledger", case, "rate", Unit(1e-3, " thousand/s"), side=LINGERING)
    yield Target(f"lingering, ledger, {case}: events", 50, True, "≥ 50 thousand/s", rate)
    yield Target("ledger: balances to the cent", 0, False, "none wrong", _wrong)


def _wrong(results: Results) -> Measured:
    """Return by how many cents balances are wrong, of ours in all rounds."""
    sides = (OURS, LINGERING)
    found = [each.metrics for each in results.of("ledger") if each.side in sides]
    if not found:
        return NOTHING
    cents = sum(each["wrong_cents"] for each in found)
    missing = sum(each["missing"] for each in found)
    return Measured(cents + missing, f"{cents:,} cents wrong, {missing:,} events missing")


def _hot() -> Iterator[Target]:
    turn, millisecond = hot.case_name(50, 0.0), hot.case_name(50, 0.001)
    spread = hot.case_name(50, 0.0, hot.PROCESSES)

    def rate(case: str, bound: float, reference: str) -> Target:
        name = "redis-py" if reference == REFERENCE else "asyncio.Lock"
        measure = partial(_rate, "hot", case, OURS, reference)
        return Target(f"hot, {case}: rate", bound, True, f"≥ {bound:g} × {name}", measure)

    def longest(case: str, bound: float) -> Target:
        measure = partial(_plain, "hot", case, "longest", MS)
        return Target(f"hot, {case}: longest wait", bound, False, f"≤ {bound:g} ms", measure)

    def starved(case: str) -> Target:
        measure = partial(_worst, "hot", case, "starved", Unit(1, " tasks"))
        return Target(f"hot, {case}: tasks that got nothing", 0, False, "none", measure)

    yield rate(turn, 20, REFERENCE)
    yield rate(turn, 0.45, MUTEX)
    yield longest(turn, 10)
    yield starved(turn)
    yield rate(spread, 15, REFERENCE)
    yield longest(spread, 100)
    share = partial(_uneven, spread)
    yield Target(f"hot, {spread}: share of each process", 3, False, "25 ± 3 %", share)
    yield rate(millisecond, 0.92, MUTEX)
    waits = partial(_against, "hot", millisecond, "p99", REFERENCE)
    yield Target(f"hot, {millisecond}: p99 wait", 1 / 15, False, "≤ 1/15 of redis-py", waits)
    asked = partial(_plain, "hot", turn, "requests", Unit(1, ""))
    yield Target(f"hot, {turn}: requests per cycle", 0.1, False, "≤ 0.1", asked)


def _rest() -> Iterator[Target]:
    p50 = partial(_against, "handoff", handoff.CASE, "p50")
    yield Target("hand-off p50", 1 / 60, False, "≤ 1/60 of redis-py", partial(p50, REFERENCE))
    yield Target(
        "hand-off p50", 1.0, False, "≤ python-redis-lock", partial(p50, "python-redis-lock")
    )
    leases = renewal.case_name(10_000)
    cpu = partial(_against, "renewal", leases, "client_us", REFERENCE)
    yield Target(f"{leases}: client CPU per renewal", 1 / 13, False, "≤ 1/13 of redis-py", cpu)
    size = partial(_plain, "renewal", leases, "bytes", Unit(1 / 1024, " KB"))
    yield Target(f"{leases}: bytes per lease", 1.5, False, "≤ 1.5 KB", size)
    lag = partial(_plain, "renewal", leases, "lag_p99", MS)
    yield Target(f"{leases}: loop lag p99", 5, False, "≤ 5 ms", lag)
    bare = partial(_server_cpu, limit.case_name(64))
    yield Target("server CPU per uncontended cycle", 1.5, False, "≤ 1.5 × bare scripts", bare)


def _server_cpu(case: str, results: Results) -> Measured:
    return _ratio(results.ratio("limit", case, "server_us", OURS, limit.BARE))


def _quorum() -> Iterator[Target]:
    one, some = (quorum.case_name(tasks) for tasks in (1, 64))
    rows = (
        (some, 12, "aioredlock"),
        (some, 12, "pottery"),
        (some, 1.4, "node-redlock"),
        (one, 1.3, "aioredlock"),
    )
    for case, bound, reference in rows:
        measure = partial(_rate, "quorum", case, OURS, reference)
        shown = f"≥ {bound:g} × {reference}"
        yield Target(f"quorum, {case}: rate", bound, True, shown, measure)
    for fate in quorum.FATES:
        for tasks in (1, 64):
            slower = partial(_slower, quorum.case_name(tasks), quorum.case_name(tasks, fate))
            what = f"quorum, {quorum.case_name(tasks, fate)}: p50"
            yield Target(what, 1.5, False, "≤ 1.5 × of all up", slower)


def _slower(before: str, after: str, results: Results) -> Measured:
    """Return by how much p50 grows from one case to another, within each round."""
    return _ratio(results.growth("quorum", before, after, "p50", OURS))


def _cluster() -> Iterator[Target]:
    for processes in (1, 3):
        case = cluster.case_name(64, processes)
        measure = partial(_rate, "cluster", case, ON_ALL, ON_ONE)
        what = f"cluster, {case}: rate, names on 3 primaries"
        yield Target(what, 1.0, True, "≥ 1 × names on one", measure)


def _herd() -> Iterator[Target]:
    few, *more = (herd.case_name(clients) for clients in herd.SIZES)
    for case in more:
        asked = partial(_plain, "herd", case, "requests", Unit(1, ""))
        yield Target(f"herd, {case}: requests per hand-off", 4, False, "≤ 4", asked)
    for case in more:
        cpu = partial(_grown, few, case, "server_us")
        shown = f"≤ 1.5 × of {few}"
        yield Target(f"herd, {case}: server CPU per hand-off", 1.5, False, shown, cpu)
    for case in more:
        gap = partial(_grown, few, case, "p50")
        yield Target(f"herd, {case}: gap p50", 2, False, f"≤ 2 × of {few}", gap)


def _grown(before: str, after: str, metric: str, results: Results) -> Measured:
    return _ratio(results.growth("herd", before, after, metric, OURS))


def _siblings() -> Iterator[Target]:
    for case, bound in ((siblings.ONCE, 3), (siblings.FREE, 3), (siblings.CONTENDED, 10)):
        measure = partial(_rate, "siblings", case, OURS, REFERENCE)
        yield Target(f"{case}: rate", bound, True, f"≥ {bound} × by hand", measure)
    p50 = partial(_against, "siblings", siblings.RESIGNED, "p50", REFERENCE)
    yield Target(f"{siblings.RESIGNED}: p50", 1 / 20, False, "≤ 1/20 of a polled lock", p50)


def targets() -> list[Target]:
    """Return all rows, in the order in which they were set."""
    contended = [*_hot(), *_rest(), *_herd()]
    others = [*_quorum(), *_cluster(), *_siblings()]
    return [*_throughput(), *_reuse(), *_ledger(), *contended, *others]
