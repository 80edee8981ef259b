"""``python -m tests.mutants``: how many schedules it takes to find each planted bug."""

from __future__ import annotations

import argparse
import compileall
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.mutants.catalogue import MUTANTS
from tests.mutants.mutant import Mutant
from tests.mutants.planting import Found, copy, look_for
from tests.mutants.table import table
from tests.simulation.proof import commit

ROOT = Path(__file__).parents[2]


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--schedules", type=int, default=2000, help="most for each")
    parser.add_argument("--from", type=int, dest="first", default=0, help="first seed")
    parser.add_argument("--only", default="", metavar="NAME", help="those with this in their names")
    parser.add_argument("--theme", default="", help="only in schedules about this")
    parser.add_argument("--jobs", type=int, default=1, help="how many at a time")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the table as Markdown")
    return parser.parse_args()


def main() -> int:
    """Run the command."""
    asked = arguments()
    measured = "" if asked.write is None else commit()
    mutants = [each for each in MUTANTS if asked.only in each.name]
    results: dict[Mutant, Found | None] = {}
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(soft_wrap=True),
    )
    with (
        tempfile.TemporaryDirectory() as place,
        ThreadPoolExecutor(asked.jobs) as pool,
        progress,
    ):
        source = Path(place)
        copy(ROOT, source)  # as it is now, whatever is edited meanwhile
        compileall.compile_dir(source, quiet=1)  # once, for all copies of it

        def look(mutant: Mutant) -> Found | None:
            task = progress.add_task(mutant.name, total=asked.schedules)
            try:
                return look_for(
                    mutant,
                    source,
                    asked.first,
                    asked.schedules,
                    lambda number: progress.update(task, completed=number),
                    theme=asked.theme,
                )
            finally:
                progress.remove_task(task)

        looking = {pool.submit(look, each): each for each in mutants}
        for done in as_completed(looking):
            mutant, found = looking[done], done.result()
            results[mutant] = found
            said = "not found"
            if found is not None:
                said = f"{found.schedules:4} schedules (seed {found.seed}), by {found.rule}"
            progress.console.print(f"{mutant.name:52} {said}", highlight=False)
    if asked.write is not None:
        rows = [(each, results[each]) for each in mutants]
        asked.write.write_text(table(rows, asked.schedules, measured))
    return min(1, sum(found is None for found in results.values()))


if __name__ == "__main__":
    sys.exit(main())
