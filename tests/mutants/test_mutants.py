"""The planted bugs can be planted, and the simulation sees some of them soon."""

from collections import Counter
from pathlib import Path

import pytest

from tests.mutants.catalogue import MUTANTS
from tests.mutants.hidden import HIDDEN
from tests.mutants.mutant import Mutant
from tests.mutants.planting import in_order, look_for, planted
from tests.mutants.table import NO_TEST, NOT_IN, Row, read, table
from tests.simulation.themes import THEMES, theme_of

ROOT = Path(__file__).parents[2]

NAMES = {each.name: each for each in MUTANTS}

CHEAP = {
    # It ends the lease of another process, or of its own, which then asks for it once more.
    "abandon without a look at the owner": {"owner", "again"},
    "acquired for ever": {"long"},
}
"""What is found within a few schedules, and by which rules: by whichever is broken first."""


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda each: each.name)
def test_what_a_bug_changes_stands_once_in_its_file(mutant: Mutant) -> None:
    """So that none rots: each changes one place, and that is there."""
    for edit in mutant.edits:
        assert edit.count_in(ROOT) == 1, edit
        assert edit.old != edit.new


def test_no_two_bugs_have_one_name() -> None:
    """A row of the table is one bug."""
    assert max(Counter(each.name for each in MUTANTS).values()) == 1


def test_what_is_said_of_hidden_bugs_is_said_of_bugs_that_are_planted() -> None:
    """A row that is renamed keeps its reason."""
    assert HIDDEN.keys() <= NAMES.keys()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda each: each.name)
def test_what_a_bug_is_looked_for_with_is_there(mutant: Mutant) -> None:
    """Tests that are renamed stay named, and so do themes."""
    assert mutant.theme in {"", *THEMES}
    assert mutant.tests
    for each in mutant.tests:
        file, _, name = each.partition("::")
        text = (ROOT / "tests" / file).read_text()
        assert f"def {name.partition('[')[0]}(" in text or not name


def test_a_page_that_is_written_in_part_keeps_its_other_rows(tmp_path: Path) -> None:
    """What was found is read again as it was written, and what is not yet looked for as such."""
    found = Row("7", "owner", "abc1234", "unit/test_x.py::test_y[a-b]", "def5678")
    missed = Row(f"{NOT_IN}150", "", "abc1234", NO_TEST, "def5678")
    first, second, *_ = MUTANTS
    page = tmp_path / "page.md"
    page.write_text(table(MUTANTS, {first.name: found, second.name: missed}))
    rows = read(page)
    assert (rows[first.name], rows[second.name]) == (found, missed)
    assert (found.known, missed.known) == (6, None)
    assert {row for name, row in rows.items() if name not in {first.name, second.name}} == {Row()}
    assert table(MUTANTS, rows) == page.read_text()


def test_what_is_likely_to_show_a_bug_is_tried_first() -> None:
    """The schedule that has shown it before, then those about such things, then all, each once."""
    mutant = NAMES["used again after a recall"]
    seeds = in_order(mutant, range(200), 77)
    about = [seed for seed in range(200) if (theme_of(seed, "single") or ("",))[0] == mutant.theme]
    assert about
    assert seeds[0] == 77
    assert [seed for seed in seeds[1:] if seed in about] == [seed for seed in about if seed != 77]
    assert {*seeds[1 : len(about)]} <= {*about}
    assert sorted(seeds) == list(range(200))


@pytest.mark.parametrize("name", CHEAP)
def test_a_planted_bug_is_found(name: str) -> None:
    """The simulation objects to the bug that was planted, and to nothing without it."""
    with planted(NAMES[name], ROOT) as root:
        found = look_for(NAMES[name], ROOT, root, range(60))
    assert found is not None
    assert found.rule in CHEAP[name]
