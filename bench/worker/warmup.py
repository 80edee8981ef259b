"""What every worker does before its window begins, on whatever loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from bench.worker.spec import Spec

ALL_RUN_WITHIN = 15.0
"""Seconds in which each task must have had its own lock once."""

LOOK_EVERY = 0.05
"""Seconds between two looks whether they have."""


def pauses(spec: Spec, everybody_had_a_turn: Callable[[], bool]) -> Iterator[float]:
    """
    Yield the pauses that make up the warm-up, seconds.

    Names of their own: from when each task has had its lock, connections are open and
    scripts loaded, once more.  On a hot name somebody may never have a turn.
    ``node_redlock.cjs`` does the same.
    """
    yield spec.warmup
    if spec.hot:
        return
    until = time.perf_counter() + ALL_RUN_WITHIN
    while not everybody_had_a_turn() and time.perf_counter() < until:
        yield LOOK_EVERY
    yield spec.warmup
