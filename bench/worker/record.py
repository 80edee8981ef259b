"""What a worker notes while it measures."""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Sequence
from typing import Any

STEP = 1.03
"""Ratio of the bounds of one bucket of a histogram: quantiles are within 1.5 %."""

FLOOR = 1e-7
"""Lower bound of the first bucket, seconds."""

_LOG_STEP = math.log(STEP)


def bucket(seconds: float) -> int:
    """Return the histogram bucket of a duration."""
    return max(0, int(math.log(max(seconds, FLOOR) / FLOOR) / _LOG_STEP))


def bucket_value(number: int) -> float:
    """Return the duration in the middle of a bucket, in seconds."""
    return FLOOR * math.exp((number + 0.5) * _LOG_STEP)


def histogram(waits: Sequence[float]) -> dict[str, int]:
    """Count durations by bucket; the keys are texts, as JSON has them."""
    counts: dict[int, int] = {}
    for wait in waits:
        number = bucket(wait)
        counts[number] = counts.get(number, 0) + 1
    return {str(number): counts[number] for number in sorted(counts)}


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest value that ``share`` of all do not exceed; 0 of none."""
    if not ordered:
        return 0.0
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


class Recorder:
    """
    The waits of each task in one window of time.

    :param tasks: how many tasks there are
    """

    def __init__(self, tasks: int) -> None:
        self.pending: list[float] = [0.0] * tasks
        """When each task began to wait; 0.0 while it does not."""
        self.waits = [array("d") for _ in range(tasks)]
        """How long each task waited, for each time that it got the lock."""
        self._began_at = 0.0
        self._cpu_at = 0.0

    def note(self, task: int, began: float, entered: float) -> None:
        """Note that a task waited from ``began`` to ``entered``."""
        self.waits[task].append(entered - began)

    def everybody_had_a_turn(self) -> bool:
        """Tell whether each task has got the lock, in the window or before it."""
        return all(self.waits)

    def begin(self) -> None:
        """Begin the window: forget what was noted."""
        for waits in self.waits:
            del waits[:]
        self._cpu_at = time.process_time()
        self._began_at = time.perf_counter()

    def end(self) -> dict[str, Any]:
        """End the window, and return its figures: ``node_redlock.cjs`` has the same."""
        now = time.perf_counter()
        cpu = time.process_time() - self._cpu_at
        counts = [len(waits) for waits in self.waits]
        every = [wait for waits in self.waits for wait in waits]
        longest = [max(waits, default=0.0) for waits in self.waits]
        # Who still waits has waited so long at least.  Left out, those would be missing who
        # wait longest.  As every wait, it counts from asking, if that was before the window.
        for task, since in enumerate(self.pending):
            if since:
                every.append(now - since)
                longest[task] = max(longest[task], now - since)
        every.sort()
        return {
            "seconds": now - self._began_at,
            "cycles": sum(counts),
            "client_cpu": cpu,
            "p50": quantile(every, 0.5),
            "p99": quantile(every, 0.99),
            "longest": max(longest),
            "starved": counts.count(0),
            "counts": counts,
            "longest_by_task": longest,
            "histogram": histogram(every),
        }
