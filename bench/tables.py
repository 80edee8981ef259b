"""The figures as tables, for the terminal and for Markdown alike."""

# ruff: noqa: RUF001  # the multiplication sign and the dash are meant

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.peers import catalog
from bench.peers.catalog import AT, ON_ONE, OURS, REFERENCE
from bench.results import Results, Sample
from bench.stats import Interval
from bench.targets import targets
from bench.worker.record import quantile
from bench.workloads import WORKLOADS
from bench.workloads.seed import CASE, PUBLISHED, ROWS

NONE = "–"


@dataclass(frozen=True)
class Table:
    """A title, a note below it, a header and rows of text; the first columns are words."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    words: int = 2


@dataclass(frozen=True)
class Column:
    """
    A metric: its title with the unit, the factor to that unit, and how to show it.

    :ivar of_all: makes one figure of all rounds; default: the median.  A median would hide
        what went wrong in two rounds of five
    """

    title: str
    metric: str
    factor: float = 1.0
    form: str = ".3g"
    spread: bool = False
    of_all: Callable[[Sequence[float]], float] | None = None


def _p99(values: Sequence[float]) -> float:
    return quantile(sorted(values), 0.99)


RATE = Column("cycles/s", "rate", form=",.0f", spread=True)
P50 = Column("p50, ms", "p50", 1e3)
P99 = Column("p99, ms", "p99", 1e3)
LONGEST = Column("longest, ms", "longest", 1e3)
REQUESTS = Column("requests/cycle", "requests")
SERVER = Column("server CPU, µs/cycle", "server_us")
CLIENT = Column("client CPU, µs/cycle", "client_us")

COLUMNS = {
    "throughput": (RATE, P50, P99, REQUESTS, SERVER, CLIENT),
    "reuse": (RATE, P50, P99, REQUESTS, SERVER, CLIENT),
    "ledger": (
        Column("events/s", "rate", form=",.0f", spread=True),
        Column("until the kill", "before", form=",.0f"),
        Column("after it", "after", form=",.0f"),
        Column("requests/event", "requests"),
        Column("server CPU, µs/event", "server_us"),
        Column("client CPU, µs/event", "client_us"),
        Column("cents wrong, all rounds", "wrong_cents", form=",.0f", of_all=sum),
        Column("events missing, all rounds", "missing", form=".0f", of_all=sum),
    ),
    "hot": (
        RATE,
        P50,
        P99,
        LONGEST,
        Column("got nothing, worst round", "starved", form=".0f", of_all=max),
        Column("least – most", "least", form=".0f"),
        Column("fairness", "fairness", form=".2f"),
        REQUESTS,
        SERVER,
    ),
    "handoff": (
        P50,
        Column("p99 of all rounds, ms", "times", 1e3, of_all=_p99),
        Column("longest of all, ms", "longest", 1e3, of_all=max),
    ),
    "herd": (
        Column("hand-offs/s", "rate", form=",.0f", spread=True),
        Column("gap p50, ms", "p50", 1e3),
        Column("gap p99, ms", "p99", 1e3),
        Column("requests/hand-off", "requests"),
        Column("server CPU, µs/hand-off", "server_us"),
        Column("client CPU, µs/hand-off", "client_us"),
        Column("connections", "connected", form=",.0f"),
    ),
    "renewal": (
        Column("client CPU, %", "client_cpu", 100),
        Column("server CPU, %", "server_cpu", 100),
        Column("requests/s", "requests_rate", form=",.0f"),
        Column("client CPU, µs/renewal", "client_us"),
        Column("bytes/lease", "bytes", form=",.0f"),
        Column("loop lag p99, ms", "lag_p99", 1e3),
        Column("lost, all rounds", "lost", form=".0f", of_all=sum),
    ),
    "limit": (RATE, P50, P99, REQUESTS, SERVER),
    "quorum": (RATE, P50, P99, REQUESTS, SERVER, CLIENT),
    "cluster": (RATE, P50, P99, REQUESTS, SERVER, CLIENT),
    "siblings": (RATE, P50, LONGEST, REQUESTS, SERVER, CLIENT),
}

REFERENCES = {"quorum": "pottery", "cluster": ON_ONE}
"""Whose rate the others are compared with, if it is not redis-py's."""

NOTES = {
    "throughput": "× is the ratio to redis-py's Lock in the same rounds, with its interval.",
    "reuse": (
        "× is the ratio to redis-py's Lock. Lingering: a released lease is used again within 50 ms "
        "without asking Redis. Asked back: from asking for a lock whose last holder, in the other "
        "process, has just released it. In turns: two processes want one name about every "
        "millisecond, at random."
    ),
    "ledger": (
        "Four processes of 32 tasks apply the sample's events: read the balance under the lock of "
        "the wallet, write it to a fenced store in memory. In the middle the process that has the "
        "hottest wallet is killed, and its leases run out (ttl 1 s) before the others have its "
        "wallets. Client CPU: of the survivors."
    ),
    "hot": (
        "Wait: from asking until the body runs. Least – most: cycles of a task in one "
        "window. Fairness: Jain's index over tasks, 1 is even. Who still waits when the "
        "window closes counts with what it has waited so far."
    ),
    "handoff": (
        "Release called in one process to body running in the other, idle otherwise. A round "
        "has too few hand-offs for a p99 of its own."
    ),
    "herd": (
        "Each client has a connection of its own, as a process has; one or two of them are the "
        "bench's. Gap: from right before a release to the next body, whoever's that is."
    ),
    "renewal": "redis-py: one asyncio task per lock that calls reacquire() every ttl/3.",
    "quorum": (
        "× is the ratio to pottery's AIORedlock. Requests and server CPU: of all nodes. Nodes "
        "are killed or frozen before the window begins."
    ),
    "cluster": (
        "× is the ratio to names on one primary. Clients and primaries share this machine's "
        "cores: what more of them cost in smaller batches counts here, and what they could "
        "serve on machines of their own does not."
    ),
    "siblings": (
        "× is the ratio to the same by hand, on redis-py, in its row: once, a mark that is "
        "looked at before and behind the lock, and written under it; elections, the lock polled "
        "every 0.1 s; together, locks one by one in the order of their names. Wait: until the body "
        "runs, or need not; of elections from the end of the leader to the body of the next one, "
        "idle otherwise. Any two that hold 3 of 5 names have one in common. Semaphore: a sorted "
        "set of leases and a script, polled every 0.1 s, and the one library that we found to go "
        "with this redis-py and to have permits that are leases. Read/write locks: such a set of "
        "readers, whom the writer's lock bars; of libraries for asyncio we found only redishilok, "
        "which wants redis-py below 6."
    ),
    "limit": (
        "A cycle is acquire and release; for the pipe, one empty script; for "
        "redis-benchmark, both scripts one after the other, 1 or 50 × 16 at a time."
    ),
}


def all_tables(results: Results) -> list[Table]:
    """Return every table that there are figures for."""
    found = [target_table(results)]
    found += [
        seed_table(results) if name == "seed" else workload_table(results, name)
        for name in results.workloads()
    ]
    if any(side.startswith(AT) for side in results.sides()):
        found.append(against_table(results))
    if results.missing:
        rows = [(catalog.title(peer), why) for peer, why in results.missing.items()]
        found.append(Table("Not measured", ("lock", "why"), rows))
    return found


def target_table(results: Results) -> Table:
    """Compare what was measured with what was set."""
    words = {True: "met", False: "**missed**", None: NONE}
    rows = []
    for target in targets():
        measured = target.measure(results)
        rows.append((target.what, target.shown, measured.text, words[target.met(results)]))
    return Table("Targets", ("what", "target", "measured", ""), rows, words=4)


COMPARED = {
    "rate": "rate",
    "p50": "p50",
    "requests": "requests",
    "server_us": "server CPU",
    "client_us": "client CPU",
}
"""What is compared with another commit, and what its column is called."""


def against_table(results: Results) -> Table:
    """Compare ours with ours as another commit has it: the ratios within the rounds."""
    rows: list[tuple[str, ...]] = []
    for name in results.workloads():
        for case in results.cases(name):
            for former in results.sides(name, case):
                peer, _, loop = former.partition("/")
                if peer.startswith(AT):
                    side = f"{OURS}/{loop}" if loop else OURS
                    ratios = [results.ratio(name, case, each, side, former) for each in COMPARED]
                    told = [_times(ratio, side, former) for ratio in ratios]
                    rows.append((f"{name}, {case}", catalog.title(former), *told))
    header = ("ours, as a multiple of", "", *COMPARED.values())
    return Table("Beside another commit", header, rows)


def seed_table(results: Results) -> Table:
    """Lay out the table that the project answers."""
    rows: list[tuple[str, ...]] = []
    for strategy, peer, rate, p99 in ROWS:
        published = (rate or NONE, p99 or NONE)
        ours = [_cell(results, "seed", CASE, peer, column) for column in (RATE, P99)]
        rows.append((strategy, *ours, *published))
    header = ("strategy", "ops/s here", "p99 here, ms", "ops/s published", "p99 published, ms")
    return Table(f"seed: {WORKLOADS['seed'].about}", header, rows, PUBLISHED, words=1)


def workload_table(results: Results, name: str) -> Table:
    """Lay out one workload: a row for each case and side."""
    columns = COLUMNS[name]
    compared = "rate" in (column.metric for column in columns) and name != "limit"
    reference = REFERENCES.get(name, REFERENCE)
    header = ["", "lock", *(column.title for column in columns), *(["×"] if compared else [])]
    rows: list[list[str]] = []
    for case in results.cases(name):
        for side in results.sides(name, case):
            row = ["" if rows and _same(rows, case) else case, catalog.title(side)]
            row += [_cell(results, name, case, side, column) for column in columns]
            if compared:
                row.append(
                    _times(results.ratio(name, case, "rate", side, reference), side, reference)
                )
            rows.append(row)
    errors = {(each.side, each.error): each for each in results.errors(name)}
    note = " ".join([NOTES[name], *map(_failure, errors.values())])
    return Table(f"{name}: {WORKLOADS[name].about}", header, rows, note)


def _same(rows: Sequence[Sequence[str]], case: str) -> bool:
    return next(row[0] for row in reversed(rows) if row[0]) == case


def _failure(sample: Sample) -> str:
    return f"{catalog.title(sample.side)} failed ({sample.case}): {sample.error}."


def _cell(results: Results, workload: str, case: str, side: str, column: Column) -> str:
    def show(value: float) -> str:
        scaled = value * column.factor
        # No powers of ten for what is large.
        return format(scaled, ",.0f" if abs(scaled) >= 1000 else column.form)

    if column.of_all is not None:
        values = results.pooled(workload, case, side, column.metric)
        return show(column.of_all(values)) if values else NONE
    found = results.interval(workload, case, side, column.metric)
    if found is None:
        return NONE
    if column.metric == "least":
        most = results.interval(workload, case, side, "most")
        return show(found.median) + (f" – {most.median:.0f}" if most else "")
    if column.spread and found.samples > 1:
        return f"{show(found.median)} ({show(found.low)} – {show(found.high)})"
    return show(found.median)


def _times(found: Interval | None, side: str, reference: str) -> str:
    if found is None:
        return NONE
    if side == reference:
        return "1"
    told = f"{found.median:.3g}"
    return told if found.samples == 1 else f"{told} ({found.low:.3g} – {found.high:.3g})"


def headline(results: Results) -> str:
    """Say in one line what the run was, and whether it was correct."""
    environment = results.environment
    load = environment.get("load_average", [NONE])[0]
    return (
        f"{environment.get('cpu')}, {environment.get('cores')} cores, "
        f"{environment.get('python')}, Redis {environment.get('redis_server')}, "
        f"{catalog.title(OURS)} at commit {environment.get('commit')}, load {load} at the start"
    )
