"""What was found, for docs/planted-bugs.md, and what that page says already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.mutants.hidden import HIDDEN
from tests.mutants.mutant import Mutant

HEAD = """\
# Planted bugs

Does the simulation see anything at all, and do the tests? Each row is a single change of the
package that breaks a rule of the [design](design.md), planted in a copy of it. It is looked for by
schedules of `tests/simulation`, until a judge objects to something to which it does not object
without the change: so many from seed 0 on show it, perhaps fewer, for the schedule that showed it
before is tried first, and those that are about such things. For some none is run, and below it is
said why. Besides, those tests of the suite are run that should see it; the first to fail is told.

`python -m tests.mutants --suite --write docs/planted-bugs.md` writes this page, `--only` and
`--open` some of its rows; each says on which commit it was measured. The changes stand in
`tests/mutants/catalogue`.

"""

COLUMNS = ("room", "planted bug", "breaks", "schedules", "found by", "on", "test", "on")

NOT_IN = "not in "
BY_TESTS = "by tests"
"""Where schedules are not asked: they cannot show it, and a test does."""
NO_TEST = "none"


@dataclass(frozen=True)
class Row:
    """
    What is known of a bug, as texts; ``""``: not yet.

    :param schedules: within how many it is found, or in how many it is not, or ``BY_TESTS``
    :param rule: the judge's
    :param on: the commit
    :param test: of the suite, that finds it
    :param tested_on: the commit
    """

    schedules: str = ""
    rule: str = ""
    on: str = ""
    test: str = ""
    tested_on: str = ""

    @property
    def is_found(self) -> bool:
        """Whether a schedule shows it."""
        return self.schedules.isdecimal()

    @property
    def is_settled(self) -> bool:
        """Whether no schedule needs to be run for it."""
        return self.is_found or self.schedules == BY_TESTS

    @property
    def is_tested(self) -> bool:
        """Whether a test of the suite finds it."""
        return self.test not in ("", NO_TEST)

    @property
    def known(self) -> int | None:
        """The seed of that schedule."""
        return int(self.schedules) - 1 if self.is_found else None


def read(page: Path) -> dict[str, Row]:
    """Return what a page says, by the names of the bugs."""
    rows = {}
    for line in page.read_text().splitlines() if page.exists() else ():
        cells = [each.strip(" `") for each in line.removeprefix("|").split("|")[:-1]]
        if line.startswith("|") and len(cells) == len(COLUMNS) and cells[0].strip("-"):
            rows[cells[1]] = Row(*cells[3:])
    rows.pop(COLUMNS[1], None)
    return rows


def table(mutants: Sequence[Mutant], rows: Mapping[str, Row]) -> str:
    """Return the page."""
    known = [(each, rows.get(each.name, Row())) for each in mutants]
    took = [int(row.schedules) for _, row in known if row.is_found]
    tested = [row for _, row in known if row.is_tested]
    summary = f"Of {len(known)} the simulation finds {len(took)}"
    if took:
        summary += f", half of them within {median(took):.0f} schedules"
    for_tests = sum(row.schedules == BY_TESTS for _, row in known)
    summary += (
        f"; {for_tests} are for tests alone. A test of the suite is known to find {len(tested)}."
    )
    lines = [
        HEAD + summary,
        "",
        f"| {' | '.join(COLUMNS)} |",
        "| --- | --- | --- | ---: | --- | --- | --- | --- |",
    ]
    for mutant, row in known:
        shown = (row.schedules, _code(row.rule), row.on, _code(row.test), row.tested_on)
        lines.append(f"| {mutant.room} | {mutant.name} | {mutant.rule} | {' | '.join(shown)} |")
    missed = [mutant.name for mutant, row in known if row.schedules.startswith(NOT_IN)]
    if missed:
        lines += ["", "What no schedule shows is a gap:", "", *(f"- {name}" for name in missed)]
    hidden = [mutant.name for mutant, row in known if row.schedules == BY_TESTS]
    if hidden:
        lines += ["", "What schedules are not asked for, as they cannot show it:", ""]
        lines += [f"- {name}: {HIDDEN[name]}." for name in hidden]
    return "\n".join(lines) + "\n"


def _code(text: str) -> str:
    return f"`{text}`" if text not in ("", NO_TEST) else text
