"""A planted bug: what it changes, and which rule says otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PACKAGE = "aiodistlock"


@dataclass(frozen=True)
class Edit:
    """
    A text of a file of the package, and the one that takes its place.

    :param file: its path in the package
    """

    file: str
    old: str
    new: str

    def count_in(self, root: Path) -> int:
        """Return how often the text stands in its file; once is right."""
        return (root / PACKAGE / self.file).read_text().count(self.old)

    def apply(self, root: Path) -> None:
        """
        Make the change in a copy of the package.

        :raises LookupError: if the text is not there exactly once
        """
        if (times := self.count_in(root)) != 1:
            raise LookupError(f"{self.file} has this {times} times: {self.old!r}")
        path = root / PACKAGE / self.file
        path.write_text(path.read_text().replace(self.old, self.new))


@dataclass(frozen=True)
class Mutant:
    """
    One planted bug.

    :param rule: the section of docs/design.md, and its rule, that it breaks
    :param edits: one, or more where the same rule is written out in several places
    :param deployment: where it is looked for
    :param theme: what the schedules are about that are likely to show it
    :param tests: what of the suite finds it besides: below ``tests``, as pytest takes it
    """

    name: str
    rule: str
    edits: tuple[Edit, ...]
    deployment: str = "single"
    theme: str = ""
    tests: tuple[str, ...] = ()

    @property
    def room(self) -> str:
        """Where it is planted: a room of the package, or its Lua."""
        file = self.edits[0].file
        if file.endswith(".lua"):
            return "lua"
        return file.partition("/")[0] if "/" in file else "faces"


def mutant(
    name: str,
    rule: str,
    file: str,
    old: str,
    new: str,
    *more: Edit,
    deployment: str = "single",
    theme: str = "",
    tests: str = "",
) -> Mutant:
    """
    Make one of its first edit.

    :param tests: one, or several with blanks between
    """
    edits = (Edit(file, old, new), *more)
    return Mutant(name, rule, edits, deployment, theme, tuple(tests.split()))
