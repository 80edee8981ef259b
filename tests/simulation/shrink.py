"""Finds a smaller schedule that shows the same: fewer faults, fewer processes, less time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from tests.simulation.plan import Plan, draw
from tests.simulation.world import run

MOST_TRIES = 400


@dataclass(frozen=True)
class Smaller:
    """
    A schedule by its seed, and what is left out of it.

    :param without: places of strikes that do not happen
    """

    seed: int
    deployment: str
    without: frozenset[int] = frozenset()
    processes: int | None = None
    workers: int | None = None
    until: float | None = None

    def plan(self) -> Plan:
        """Return what is run."""
        plan = draw(self.seed, self.deployment).without(self.without)
        return replace(
            plan,
            processes=self.processes or plan.processes,
            workers=self.workers or plan.workers,
            until=self.until or plan.until,
        )

    def command(self) -> str:
        """Return the command that runs it and tells what happens."""
        words = ["python -m tests.simulation", f"--deployment '{self.deployment}'"]
        words.append(f"--seed {self.seed}")
        if self.without:
            words.append(f"--without {','.join(map(str, sorted(self.without)))}")
        sizes = {"processes": self.processes, "workers": self.workers, "until": self.until}
        words += [f"--{name} {size!r}" for name, size in sizes.items() if size is not None]
        return " ".join(words)

    def smaller(self) -> Iterator[Smaller]:
        """Yield schedules that are smaller by one step, the smallest first."""
        whole, plan = draw(self.seed, self.deployment), self.plan()
        there = [at for at in range(len(whole.strikes)) if at not in self.without]
        size = len(there)
        while size:
            for start in range(0, len(there), size):
                yield replace(self, without=self.without | set(there[start : start + size]))
            size //= 2
        if plan.processes > 1:
            yield replace(self, processes=plan.processes - 1)
        if plan.workers > 1:
            yield replace(self, workers=plan.workers - 1)
        yield replace(self, until=round(plan.until / 2, 3))


def shrunk(seed: int, deployment: str, rule: str) -> Smaller:
    """Return a small schedule that breaks the same rule."""
    smallest, tries = Smaller(seed, deployment), 0
    progress = True
    while progress:
        progress = False
        for candidate in smallest.smaller():
            tries += 1
            if tries > MOST_TRIES:
                return smallest
            outcome = run(candidate.plan())
            if any(each.rule == rule for each in outcome.violations):
                smallest, progress = candidate, True
                break
    return smallest
