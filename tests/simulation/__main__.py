"""``python -m tests.simulation``: runs schedules by the thousand, or one again by its seed."""

from __future__ import annotations

import argparse
import os
import random
import sys
from collections import Counter
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from tests.simulation import proof
from tests.simulation.fleet import Piece, endless_pieces, outcomes, pieces, run_some, shares
from tests.simulation.ledger import Ledger
from tests.simulation.patches import deterministic
from tests.simulation.plan import DEPLOYMENTS
from tests.simulation.proof import ROOT
from tests.simulation.shrink import Smaller, shrunk
from tests.simulation.world import Outcome, tell

LEDGER = ROOT / "build" / "proof.jsonl"

SHARES = {"single": 8, "sentinel": 3, "cluster": 3, "quorum of 3": 3, "quorum of 5": 3}
"""Of the schedules, by deployment: where they take least time there are most."""


def first_found(deployment: str, seeds: range) -> int:
    """Run schedules until one has a violation, in this process; tell which."""
    for number, seed in enumerate(seeds, 1):
        (outcome,) = run_some(deployment, [seed])
        if outcome.violations:
            print(f"found {outcome.violations[0].rule} in schedule {number}")
            return 1
    return 0


def report(outcome: Outcome) -> None:
    """Print what is wrong, and the command that shows it in a schedule as small as can be."""
    plan, worst = outcome.plan, outcome.violations[0]
    with deterministic():
        smallest = shrunk(plan.seed, plan.deployment, worst.rule)
    print(f"{worst.rule}: {worst.what}\n  {smallest.command()}", flush=True)


def told(schedule: Smaller) -> int:
    """Run one schedule and tell its story; return whether there were violations."""
    with deterministic():
        outcome, lines = tell(schedule.plan())
    print("\n".join(lines))
    print(outcome.plan, *outcome.violations, sep="\n")
    return int(bool(outcome.violations))


def many(
    ledger: Ledger, todo: Iterator[Piece], jobs: int, total: int, seconds: float | None
) -> None:
    """Run schedules, and print what is wrong with any; stopped, tell what there was."""
    columns = (TextColumn("{task.completed:,} of {task.total:,} schedules"), BarColumn())
    left = (TextColumn("{task.fields[wrong]} with violations"), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, *left, console=console, transient=True) as progress:
        bar = progress.add_task("", total=total, completed=ledger.schedules, wrong=0)
        try:
            for each in outcomes(todo, jobs, seconds):
                ledger.add(each)
                progress.update(bar, completed=ledger.schedules, wrong=ledger.violations)
                for outcome in each:
                    if outcome.violations:
                        report(outcome)
        finally:
            print(*ledger.tallies.values(), sep="\n", flush=True)


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--schedules", type=int, default=1000, help="in all (default: %(default)s)")
    parser.add_argument("--seconds", type=float, help="begin none after so many seconds")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--deployment", choices=DEPLOYMENTS, help="default: all")
    parser.add_argument("--from", type=int, dest="first", help="first seed; default: a fresh one")
    parser.add_argument("--first-only", action="store_true", help="end at the first violation")
    parser.add_argument(
        "--publish",
        action="store_true",
        help=f"write docs/proof.md; goes on with what {LEDGER.relative_to(ROOT)} has of the commit",
    )
    parser.add_argument("--seed", type=int, help="run this one, and tell what happens")
    parser.add_argument("--without", default="", help="places of its strikes to leave out")
    parser.add_argument("--processes", type=int)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--until", type=float)
    asked = parser.parse_args()
    deployments: list[str] = [asked.deployment] if asked.deployment else list(DEPLOYMENTS)
    if asked.seed is not None:
        without = frozenset(int(each) for each in asked.without.split(",") if each)
        sizes = (asked.processes, asked.workers, asked.until)
        return told(Smaller(asked.seed, deployments[0], without, *sizes))
    first = random.SystemRandom().randrange(2**40) if asked.first is None else asked.first
    if asked.first_only:
        return first_found(deployments[0], range(first, first + asked.schedules))
    measured = proof.commit() if asked.publish else ""
    ledger = Ledger(deployments, LEDGER if asked.publish else None, measured)
    wanted = shares(asked.schedules, {each: SHARES[each] for each in deployments})
    there = Counter({each: tally.schedules for each, tally in ledger.tallies.items()})
    todo = pieces(wanted - there, first)
    if asked.seconds is not None and not asked.publish:
        todo = endless_pieces(deployments, first)
    many(ledger, todo, asked.jobs, wanted.total(), asked.seconds)
    if asked.publish:
        proof.publish(list(ledger.tallies.values()), measured)
    return int(ledger.violations > 0)


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        # The order of sets of texts would be another one in each run.
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]])  # noqa: S606  # no shell
    sys.exit(main())
