"""``python -m tests.mutants``: how many schedules it takes to find each planted bug."""

from __future__ import annotations

import argparse
import compileall
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.mutants.catalogue import MUTANTS
from tests.mutants.hidden import HIDDEN
from tests.mutants.mutant import Mutant
from tests.mutants.planting import copy, in_order, look_for, planted
from tests.mutants.suite import Suite
from tests.mutants.table import BY_TESTS, NO_TEST, NOT_IN, Row, read, table
from tests.simulation.proof import commit

ROOT = Path(__file__).parents[2]


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--schedules", type=int, default=2000, help="most for each; 0: none")
    parser.add_argument(
        "--only", default=[""], nargs="+", metavar="NAME", help="those with one in their names"
    )
    parser.add_argument("--open", action="store_true", help="those that the page has not found")
    parser.add_argument("--suite", action="store_true", help="look by tests of the suite, too")
    parser.add_argument("--tests", nargs="+", metavar="PATH", help="by these instead of its own")
    parser.add_argument("--jobs", type=int, default=1, help="how many at a time")
    parser.add_argument(
        "--write", type=Path, metavar="PAGE", help="a page of Markdown, whose other rows stay"
    )
    return parser.parse_args()


def chosen(asked: argparse.Namespace, rows: dict[str, Row]) -> list[Mutant]:
    """Return those that are to be looked for."""
    named = [each for each in MUTANTS if any(name in each.name for name in asked.only)]
    if not asked.open:
        return named

    def is_open(row: Row) -> bool:
        untested = asked.suite and not row.is_tested
        return untested or (asked.schedules > 0 and not row.is_settled)

    return [each for each in named if is_open(rows.get(each.name, Row()))]


class Hunt:
    """
    Looks for bugs, as the command line asks for it.

    :param source: a copy of the package and its tests
    :param measured: the commit
    """

    def __init__(
        self, asked: argparse.Namespace, source: Path, suite: Suite, measured: str
    ) -> None:
        self._asked = asked
        self._source = source
        self._suite = suite
        self._measured = measured
        self.broken: list[str] = []
        """Tests that fail without any bug."""

    def look_without(self, mutants: Iterable[Mutant]) -> None:
        """See which of the tests that are to find bugs fail without them."""
        tests = dict.fromkeys(test for each in mutants for test in self._tests(each))
        if tests:
            self.broken = self._suite.failed(list(tests), self._source)

    def look(self, mutant: Mutant, row: Row, on_schedule: Callable[[int], object]) -> Row:
        """Look for one; return what is known of it now."""
        schedules, is_open = self._asked.schedules, self._asked.open
        with planted(mutant, self._source) as root:
            if schedules and mutant.name in HIDDEN:
                row = replace(row, schedules=BY_TESTS, rule="", on="")
            elif schedules and not (is_open and row.is_found):
                seeds = in_order(mutant, range(schedules), row.known)
                found = look_for(mutant, self._source, root, seeds, on_schedule)
                row = replace(row, schedules=f"{NOT_IN}{schedules}", rule="", on=self._measured)
                if found is not None:
                    row = replace(row, schedules=str(found.seed + 1), rule=found.rule)
            if self._asked.suite and not (is_open and row.is_tested):
                tests = self._tests(mutant)
                test = self._suite.first_failed(tests, root, self.broken) if tests else None
                row = replace(row, test=test or NO_TEST, tested_on=self._measured)
        return row

    def _tests(self, mutant: Mutant) -> Sequence[str]:
        tests: Sequence[str] = self._asked.tests or mutant.tests
        return tests if self._asked.suite else ()


def main() -> int:
    """Run the command."""
    asked = arguments()
    measured = "" if asked.write is None else commit()
    rows = {} if asked.write is None else read(asked.write)
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(soft_wrap=True),
    )
    missed = 0
    with (
        tempfile.TemporaryDirectory() as place,
        ThreadPoolExecutor(asked.jobs) as pool,
        Suite() as suite,
        progress,
    ):
        source = Path(place)
        copy(ROOT, source)  # as it is now, whatever is edited meanwhile
        compileall.compile_dir(source, quiet=1)  # once, for all copies of it

        mutants = chosen(asked, rows)
        hunt = Hunt(asked, source, suite, measured)
        hunt.look_without(mutants)
        if hunt.broken:
            progress.console.print("broken without any bug:", *hunt.broken, highlight=False)

        def look_at(mutant: Mutant) -> Row:
            task = progress.add_task(mutant.name, total=asked.schedules)
            try:
                return hunt.look(
                    mutant,
                    rows.get(mutant.name, Row()),
                    lambda number: progress.update(task, completed=number),
                )
            finally:
                progress.remove_task(task)

        looking = {pool.submit(look_at, each): each for each in mutants}
        for done in as_completed(looking):
            mutant, row = looking[done], done.result()
            rows[mutant.name] = row
            missed += asked.schedules > 0 and not row.is_settled
            missed += asked.suite and not row.is_tested
            said = f"{row.schedules:>11} {row.rule:8} {row.test}"
            progress.console.print(f"{mutant.name:52} {said}", highlight=False)
            if asked.write is not None:  # each at once: a hunt takes long, and may be interrupted
                asked.write.write_text(table(MUTANTS, rows))
    return min(1, missed)


if __name__ == "__main__":
    sys.exit(main())
