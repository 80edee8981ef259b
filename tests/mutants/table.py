"""What was found, for docs/planted-bugs.md."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from tests.mutants.hidden import HIDDEN
from tests.mutants.mutant import Mutant
from tests.mutants.planting import Found

HEAD = """\
# Planted bugs

Does the simulation see anything at all? Each row is a single change of the package that breaks a
rule of the [design](design.md), planted in a copy of it, and looked for by schedules from seed 0
on until a judge of `tests/simulation` objects to something to which it does not object without
the change. `python -m tests.mutants --write docs/planted-bugs.md` writes this page; the changes
stand in `tests/mutants/catalogue`.

"""


def table(results: Sequence[tuple[Mutant, Found | None]], most: int, measured: str) -> str:
    """
    Return the page.

    :param most: how many schedules each was given
    :param measured: the commit
    """
    took = [found.schedules for _, found in results if found is not None]
    missed = [mutant for mutant, found in results if found is None]
    summary = (
        f"On commit {measured} {len(took)} of {len(results)} are found within {most} schedules"
    )
    if took:
        summary += f", half of them within {median(took):.0f}"
    lines = [
        HEAD + summary + ".",
        "",
        "| room | planted bug | breaks | schedules | found by |",
        "| --- | --- | --- | ---: | --- |",
    ]
    for mutant, found in results:
        shown = "not found | " if found is None else f"{found.schedules} | `{found.rule}`"
        lines.append(f"| {mutant.room} | {mutant.name} | {mutant.rule} | {shown} |")
    if missed:
        lines += ["", "What was not found is a gap; behind each, its presumed reason:", ""]
        lines += [f"- {each.name}: {HIDDEN.get(each.name, 'not known')}." for each in missed]
    return "\n".join(lines) + "\n"
