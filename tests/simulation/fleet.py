"""Runs many schedules, in several processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

from tests.simulation.patches import deterministic
from tests.simulation.plan import draw
from tests.simulation.rows import counted, reached
from tests.simulation.world import Outcome, run

TOGETHER = 20
"""Schedules that a job takes at a time."""


def run_some(deployment: str, seeds: Sequence[int]) -> list[Outcome]:
    """Run schedules by their seeds, in this process."""
    with deterministic(), counted():
        return [_run(deployment, seed) for seed in seeds]


def _run(deployment: str, seed: int) -> Outcome:
    reached.clear()
    outcome = run(draw(seed, deployment))
    return replace(outcome, rows=reached.copy())


def outcomes(deployment: str, seeds: range, jobs: int) -> Iterator[Outcome]:
    """Run schedules in several processes, and yield what came of them in order."""
    pieces = [seeds[at : at + TOGETHER] for at in range(0, len(seeds), TOGETHER)]
    with ProcessPoolExecutor(jobs) as pool:
        running = [pool.submit(run_some, deployment, piece) for piece in pieces]
        for each in running:
            yield from each.result()
