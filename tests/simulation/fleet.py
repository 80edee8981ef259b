"""Runs many schedules, in several processes."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import replace
from typing import NamedTuple

from tests.simulation.patches import deterministic
from tests.simulation.plan import draw
from tests.simulation.rows import counted, reached
from tests.simulation.world import Outcome, run

TOGETHER = 10
"""Schedules that a job takes at a time."""

_staying = ExitStack()


class Piece(NamedTuple):
    """Schedules that are run by one process, one after the other."""

    deployment: str
    seeds: Sequence[int]


def run_some(deployment: str, seeds: Sequence[int]) -> list[Outcome]:
    """Run schedules by their seeds, in this process."""
    with deterministic(), counted():
        return _run_piece(Piece(deployment, seeds))


def _run_piece(piece: Piece) -> list[Outcome]:
    return [_run(piece.deployment, seed) for seed in piece.seeds]


def _run(deployment: str, seed: int) -> Outcome:
    reached.clear()
    outcome = run(draw(seed, deployment))
    return replace(outcome, rows=reached.copy())


def pieces(wanted: Mapping[str, int], first: int) -> Iterator[Piece]:
    """
    Cut up what is wanted, so that of each deployment about the same share is done at any time.

    :param wanted: how many schedules of each deployment
    :param first: the first seed
    """
    cut = [
        ((at + 1) / count, Piece(deployment, range(first + at, first + min(at + TOGETHER, count))))
        for deployment, count in wanted.items()
        for at in range(0, count, TOGETHER)
    ]
    for _, piece in sorted(cut, key=lambda each: each[0]):
        yield piece


def endless_pieces(deployments: Sequence[str], first: int) -> Iterator[Piece]:
    """Cut up schedules of all deployments in turn, small, for as long as anybody takes them."""
    for seed in itertools.count(first):
        for deployment in deployments:
            yield Piece(deployment, [seed])


def outcomes(
    todo: Iterator[Piece], jobs: int, seconds: float | None = None
) -> Iterator[list[Outcome]]:
    """
    Run pieces in several processes, and yield what came of each.

    :param seconds: begin none after so many seconds
    """
    until = None if seconds is None else time.monotonic() + seconds
    running: set[Future[list[Outcome]]] = set()
    with ProcessPoolExecutor(jobs, initializer=_stay_deterministic) as pool:
        while True:
            over = until is not None and time.monotonic() >= until
            for piece in itertools.islice(todo, 0 if over else jobs + 1 - len(running)):
                running.add(pool.submit(_run_piece, piece))
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for each in done:
                yield each.result()


def _stay_deterministic() -> None:
    """Prepare a process that runs nothing else."""
    _staying.enter_context(deterministic())
    _staying.enter_context(counted())


def shares(total: int, deployments: Mapping[str, int]) -> Counter[str]:
    """Return how many schedules of each deployment there are among so many, by their shares."""
    whole = sum(deployments.values())
    return Counter({each: -(-total * share // whole) for each, share in deployments.items()})
