"""Medians, their intervals, and ratios of sides measured in the same rounds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb

from bench.worker.record import bucket_value

COVERAGE = 0.9
"""Least probability with which an interval holds the true median, if there are enough."""


@dataclass(frozen=True)
class Interval:
    """
    A median and the interval around it.

    :ivar coverage: probability that the interval holds the true median
    """

    median: float
    low: float
    high: float
    coverage: float
    samples: int


def interval(values: Sequence[float]) -> Interval:
    """
    Return the median with its narrowest interval of at least ``COVERAGE``.

    By order statistics, so no distribution is assumed: the k-th smallest and the k-th
    largest of n values hold the median with probability ``1 - 2 P(B(n, 1/2) < k)``.
    With five values that is smallest to largest, 94 %.

    :raises ValueError: if there are no values
    """
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    n = len(ordered)
    best = (ordered[0], ordered[-1], _coverage(n, 1))
    for k in range(2, n // 2 + 1):
        if _coverage(n, k) < COVERAGE:
            break
        best = (ordered[k - 1], ordered[n - k], _coverage(n, k))
    low, high, coverage = best
    return Interval(statistics.median(ordered), low, high, coverage, n)


def _coverage(n: int, k: int) -> float:
    outside = sum(comb(n, i) for i in range(k)) / (1 << n)
    return max(0.0, 1 - 2 * outside)


def ratio(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Interval:
    """
    Return the ratio of two sides: of each round its own, then the median of those.

    What slows a machine down for a while slows both sides of a round alike.

    :param ours: value by round
    :param theirs: value by round; rounds that only one side has do not count
    :raises ValueError: if no round has both, or ours would be divided by 0
    """
    rounds = sorted(ours.keys() & theirs.keys())
    if any(theirs[each] == 0 for each in rounds):
        raise ValueError("the reference is 0")
    return interval([ours[each] / theirs[each] for each in rounds])


def merged(histograms: Sequence[Mapping[str, int]]) -> dict[int, int]:
    """Add histograms of durations; the result is ordered by bucket."""
    counts: dict[int, int] = {}
    for each in histograms:
        for number, count in each.items():
            counts[int(number)] = counts.get(int(number), 0) + count
    return {number: counts[number] for number in sorted(counts)}


def histogram_quantile(counts: Mapping[int, int], share: float) -> float:
    """Return a quantile of an ordered histogram, in seconds; 0 of an empty one."""
    wanted = share * sum(counts.values())
    so_far = 0
    for number, count in counts.items():
        so_far += count
        if so_far >= wanted:
            return bucket_value(number)
    return 0.0


def fairness(counts: Sequence[float]) -> float:
    """
    Return Jain's index of how evenly cycles were shared: 1 all alike, 1/n one had all.

    R. Jain, D. Chiu, W. Hawe, "A Quantitative Measure of Fairness", DEC-TR-301, 1984.
    """
    total = sum(counts)
    squares = sum(count * count for count in counts)
    return total * total / (len(counts) * squares) if squares else 0.0
