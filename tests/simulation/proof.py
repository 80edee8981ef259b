"""Writes ``docs/proof.md``: what was simulated, and what came of it."""

from __future__ import annotations

import platform
import subprocess
from collections import Counter
from pathlib import Path

from tests.simulation.plan import (
    BEYOND_PREMISES,
    OF_CLUSTERS,
    OF_CONNECTIONS,
    OF_PROCESSES,
    OF_SENTINELS,
    OF_SERVERS,
    OF_THEMES,
)
from tests.simulation.rows import ROWS
from tests.simulation.tally import Tally

ROOT = Path(__file__).parents[2]
PROOF = ROOT / "docs" / "proof.md"

HEAD = """\
# Proof

The whole lock, from `async with` to the bytes, in a simulated world: real code, real scripts in
Redis's Lua, hiredis at both ends; event loops, clocks, network and servers are simulated, and all
that happens follows from one seed. Who takes part and which kinds of faults there are is drawn for
each schedule. What must hold is said in `tests/simulation/judge.py`: P1 while its premises hold, P2
always, an end to all waiting, no effect on what is another's, nothing left. The simulated Redis is
kept honest by `tests/simulation/test_redis_twin.py`, which asks it and a real one the same.

`python -m tests.simulation --schedules 20000 --publish` writes this page, and may be stopped and
run again: it goes on with what there is of the commit. A schedule runs again, and tells its
story, by `python -m tests.simulation --deployment … --seed …`; one that fails is made smaller
first. Whether all of it sees anything at all, `python -m tests.mutants` tells.

"""


def commit() -> str:
    """
    Return the commit that is measured.

    :raises SystemExit: if what is measured is not committed
    """
    changed = _git("status", "--porcelain", "--", "aiodistlock", "tests")
    if changed:
        raise SystemExit(f"not committed, so not published:\n{changed}")
    return _git("rev-parse", "--short", "HEAD")


def _git(*arguments: str) -> str:
    ran = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return ran.stdout.strip()


def publish(tallies: list[Tally], measured: str) -> None:
    """Write the page."""
    PROOF.write_text(HEAD + _schedules(tallies, measured))


def _schedules(tallies: list[Tally], measured: str) -> str:
    lines = [
        "## Schedules\n",
        f"Measured on commit {measured}, Python {platform.python_version()}. A schedule that took",
        "hardly any lock is vacuous; hours are simulated.\n",
        "| deployment | schedules | vacuous | leases | faults | events | hours | violations |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {each.deployment} | {each.schedules:,} | {each.vacuous:,} | {each.leases:,} "
        f"| {each.struck.total():,} | {each.events:,} | {each.seconds / 3600:.1f} "
        f"| {each.violations} |"
        for each in tallies
    ]
    lines += ["", "Kinds of locks, and in how many schedules there were any:\n"]
    lines += ["| kind | schedules | leases |", "| --- | --- | --- |"]
    there = sum((each.kinds for each in tallies), Counter[str]())
    leases = sum((each.leases_of for each in tallies), Counter[str]())
    lines += [f"| {kind} | {count:,} | {leases[kind]:,} |" for kind, count in there.most_common()]
    lines += ["", "Faults by kind:\n", "| fault | of | how often |", "| --- | --- | --- |"]
    for of, kinds in (
        ("processes", OF_PROCESSES),
        ("connections", OF_CONNECTIONS),
        ("servers", OF_SERVERS),
        ("servers, beyond what P1 is promised for", BEYOND_PREMISES),
        ("a primary and its sentinels, or its shard of a cluster, likewise", OF_SENTINELS),
        ("slots of a cluster", OF_CLUSTERS),
        ("tasks and servers, where a theme has it", OF_THEMES),
    ):
        for kind in kinds:
            lines.append(f"| {kind} | {of} | {sum(each.struck[kind] for each in tallies):,} |")
    counts = {row: sum(each.rows[row] for each in tallies) for row in sorted(ROWS)}
    lines += ["", "Rows of the state tables (of leases, and of what follows a local release):\n"]
    lines += ["| row | how often reached |", "| --- | --- |"]
    lines += [f"| {row} | {count:,} |" for row, count in counts.items()]
    return "\n".join(lines) + "\n"
