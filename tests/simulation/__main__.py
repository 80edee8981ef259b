"""``python -m tests.simulation``: runs schedules by the thousand, or one again by its seed."""

from __future__ import annotations

import argparse
import itertools
import os
import random
import sys
import time

from rich.console import Console
from rich.progress import track

from tests.simulation import proof
from tests.simulation.fleet import outcomes, run_some
from tests.simulation.patches import deterministic
from tests.simulation.plan import DEPLOYMENTS
from tests.simulation.shrink import Smaller, shrunk
from tests.simulation.tally import Tally
from tests.simulation.world import Outcome, tell


def first_found(deployment: str, seeds: range) -> int:
    """Run schedules until one has a violation, in this process; tell which."""
    for number, seed in enumerate(seeds, 1):
        (outcome,) = run_some(deployment, [seed])
        if outcome.violations:
            print(f"found {outcome.violations[0].rule} in schedule {number}")
            return 1
    return 0


def for_a_while(deployments: list[str], first: int, seconds: float) -> int:
    """Run schedules of all deployments in turn, in this process, until time is over."""
    tallies = [Tally(each) for each in deployments]
    until = time.monotonic() + seconds
    for seed in itertools.count(first):
        for tally in tallies:
            (outcome,) = run_some(tally.deployment, [seed])
            tally.add(outcome)
            if outcome.violations:
                report(outcome)
        if time.monotonic() >= until:
            break
    print(*tallies, sep="\n")
    return int(any(each.violations for each in tallies))


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


def many(deployment: str, seeds: range, jobs: int) -> Tally:
    """Run schedules, and print what is wrong with any."""
    tally = Tally(deployment)
    running = outcomes(deployment, seeds, jobs)
    console = Console(stderr=True)
    for outcome in track(running, deployment, len(seeds), console=console, transient=True):
        tally.add(outcome)
        if outcome.violations:
            report(outcome)
    print(tally, flush=True)
    return tally


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--schedules", type=int, default=200, help="of each deployment")
    parser.add_argument("--seconds", type=float, help="instead: as many as fit")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--deployment", choices=DEPLOYMENTS, help="default: all")
    parser.add_argument("--from", type=int, dest="first", help="first seed; default: a fresh one")
    parser.add_argument("--first-only", action="store_true", help="end at the first violation")
    parser.add_argument("--publish", action="store_true", help="write docs/proof.md")
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
    seeds = range(first, first + asked.schedules)
    if asked.first_only:
        return first_found(deployments[0], seeds)
    if asked.seconds is not None:
        return for_a_while(deployments, first, asked.seconds)
    measured = proof.commit() if asked.publish else ""
    tallies = [many(each, seeds, asked.jobs) for each in deployments]
    if asked.publish:
        proof.publish(tallies, measured)
    return int(any(each.violations for each in tallies))


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        # The order of sets of texts would be another one in each run.
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]])  # noqa: S606  # no shell
    sys.exit(main())
