"""Plants a bug in a copy of the package, and has the simulation look for it there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.mutant import PACKAGE, Mutant
from tests.simulation.themes import theme_of


@dataclass(frozen=True)
class Found:
    """
    A schedule in which a bug shows.

    :param rule: the judge's
    """

    seed: int
    rule: str
    what: str


def copy(source: Path, root: Path) -> None:
    """Copy what takes part in a simulation, and in the tests."""
    for part in (PACKAGE, "tests"):
        shutil.copytree(source / part, root / part)  # what is compiled, too, of what stays
    shutil.copy2(source / "pyproject.toml", root)  # pytest's options


@contextmanager
def planted(mutant: Mutant, source: Path) -> Iterator[Path]:
    """Make a copy that has the bug."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        copy(source, root)
        for edit in mutant.edits:
            edit.apply(root)
        yield root


def environment(root: Path) -> dict[str, str]:
    """Have a process import what is there, and no set of texts have another order in another."""
    return {**os.environ, "PYTHONPATH": str(root), "PYTHONHASHSEED": "0"}


def in_order(mutant: Mutant, seeds: range, known: int | None) -> list[int]:
    """
    Return the seeds in the order in which they are likely to show a bug.

    :param known: the one that has shown it before
    """
    about = {mutant.theme} - {""}
    themes = [(theme_of(seed, mutant.deployment) or ("",))[0] for seed in seeds]
    first = [seed for seed, theme in zip(seeds, themes, strict=True) if theme in about]
    begin = [known] if known is not None and known in seeds else []
    return list(dict.fromkeys([*begin, *first, *seeds]))


def look_for(
    mutant: Mutant,
    source: Path,
    root: Path,
    seeds: Sequence[int],
    on_schedule: Callable[[int], object] = lambda _number: None,
) -> Found | None:
    """
    Look for a bug; ``None``: it shows in none of the schedules.

    What the package has a schedule show without the bug, too, does not count.

    :param root: a copy that has it
    :param on_schedule: told the number of each before it begins
    """
    begun = 0

    def begins(_seed: int) -> None:
        nonlocal begun
        begun += 1
        on_schedule(begun)

    while begun < len(seeds):
        found = _hunt(mutant, root, seeds[begun:], begins)
        if found is None or _hunt(mutant, source, [found.seed], lambda _: None) is None:
            return found
    return None


def _hunt(
    mutant: Mutant, root: Path, seeds: Sequence[int], on_schedule: Callable[[int], object]
) -> Found | None:
    """Run schedules in a copy until one has a violation."""
    found: Found | None = None
    with ExitStack() as stack:
        said = stack.enter_context(tempfile.TemporaryFile("w+"))
        said.write("\n".join(map(str, seeds)))
        said.seek(0)
        errors = stack.enter_context(tempfile.TemporaryFile("w+"))
        hunter = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-m", "tests.mutants.hunt", mutant.deployment],
                cwd=root,
                env=environment(root),
                stdin=said,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        )
        stack.callback(hunter.kill)  # where this is interrupted
        assert hunter.stdout is not None
        begun: int | None = None
        for line in hunter.stdout:
            told = json.loads(line)
            if "begins" in told:
                begun = told["begins"]
                on_schedule(begun)
            else:
                found = Found(**told)
        if hunter.wait() != 0:
            errors.seek(0)
            if begun is None:
                raise RuntimeError(errors.read())
            what = errors.read().strip().splitlines()
            found = Found(begun, "hangs", what[0] if what else "")
    return found
