"""The planted bugs can be planted, and the simulation sees some of them soon."""

from collections import Counter
from pathlib import Path

import pytest

from tests.mutants.catalogue import MUTANTS
from tests.mutants.hidden import HIDDEN
from tests.mutants.mutant import Mutant
from tests.mutants.planting import look_for

ROOT = Path(__file__).parents[2]

NAMES = {each.name: each for each in MUTANTS}

CHEAP = {
    "abandon without a look at the owner": "owner",
    "acquired for ever": "long",
}
"""What is found within a few schedules, and by which rule."""


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


@pytest.mark.parametrize("name", CHEAP)
def test_a_planted_bug_is_found(name: str) -> None:
    """The simulation objects to the bug that was planted, and to nothing without it."""
    found = look_for(NAMES[name], ROOT, first=0, most=60)
    assert found is not None
    assert found.rule == CHEAP[name]
