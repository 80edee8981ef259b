"""Plants a bug in a copy of the package, and has the simulation look for it there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.mutant import PACKAGE, Mutant


@dataclass(frozen=True)
class Found:
    """
    A schedule in which a bug shows.

    :param schedules: how many were run until then
    :param rule: the judge's
    """

    schedules: int
    seed: int
    rule: str
    what: str


def copy(source: Path, root: Path) -> None:
    """Copy what takes part in a simulation."""
    for part in (PACKAGE, "tests/simulation", "tests/mutants"):
        shutil.copytree(source / part, root / part)  # what is compiled, too, of what stays
    for file in ("tests/__init__.py", "tests/resp.py"):
        shutil.copy2(source / file, root / file)


def look_for(
    mutant: Mutant,
    source: Path,
    first: int,
    most: int,
    on_schedule: Callable[[int], object] = lambda _number: None,
    *,
    theme: str = "",
) -> Found | None:
    """
    Look for a bug; ``None``: it shows in none of the schedules.

    What the package has a schedule show without the bug, too, does not count.

    :param first: seed of the first schedule
    :param most: how many to run
    :param theme: of these only those about it, if that is not empty
    :param on_schedule: told the number of each before it begins
    """
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        copy(source, root)
        for edit in mutant.edits:
            edit.apply(root)
        seed = first
        while seed < first + most:
            found = _hunt(mutant, root, first, range(seed, first + most), on_schedule, theme=theme)
            if found is None:
                return None
            alone = range(found.seed, found.seed + 1)
            if _hunt(mutant, source, first, alone, lambda _: None) is None:
                return found
            seed = found.seed + 1
        return None


def _hunt(
    mutant: Mutant,
    root: Path,
    first: int,
    seeds: range,
    on_schedule: Callable[[int], object],
    *,
    theme: str = "",
) -> Found | None:
    """Run schedules in a copy until one has a violation."""
    # No set of texts may have another order in another run: PYTHONHASHSEED.
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONHASHSEED": "0"}
    asked = [str(seeds.start), str(len(seeds)), mutant.deployment, theme]
    command = [sys.executable, "-m", "tests.mutants.hunt", *asked]
    found: Found | None = None
    with ExitStack() as stack:
        errors = stack.enter_context(tempfile.TemporaryFile("w+"))
        hunter = stack.enter_context(
            subprocess.Popen(
                command,
                cwd=root,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        )
        stack.callback(hunter.kill)  # where this is interrupted
        assert hunter.stdout is not None
        begun: int | None = None
        for line in hunter.stdout:
            said = json.loads(line)
            if "begins" in said:
                begun = said["begins"]
                on_schedule(begun - first + 1)
            else:
                found = Found(said["seed"] - first + 1, **said)
        if hunter.wait() != 0:
            errors.seek(0)
            if begun is None:
                raise RuntimeError(errors.read())
            what = errors.read().strip().splitlines()
            found = Found(begun - first + 1, begun, "hangs", what[0] if what else "")
    return found
