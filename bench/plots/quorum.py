"""What a lock on five nodes does, and what it does without two of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.peers.catalog import OURS, title
from bench.plots.style import COLOURS, INK, heading, place
from bench.results import Results
from bench.stats import Interval
from bench.workloads import quorum

TASKS = (1, 64)

Bar = tuple[str, str, Interval]
"""What a bar is of, its side, and how long it is."""


def draw(results: Results) -> Figure | None:
    """Draw cycles a second by side, and our p50 by what happened to the nodes."""
    sides = results.sides("quorum")
    if not sides:
        return None
    rates = [
        _bars(results, "rate", 1, [(title(side), quorum.case_name(tasks), side) for side in sides])
        for tasks in TASKS
    ]
    fates = {"": "all up", **{fate: f"{quorum.GONE} {fate}" for fate in quorum.FATES}}
    cases = [
        (f"{quorum.case_name(tasks)},\n{about}", quorum.case_name(tasks, fate), OURS)
        for tasks in TASKS
        for fate, about in fates.items()
    ]
    waits = _bars(results, "p50", 1e3, cases)
    rows = max(len(sides), 0.8 * len(waits))
    figure = Figure(figsize=(9.6, 1.5 + 0.42 * rows))
    left, share, gap = 0.155, 0.235, 0.02
    for number, (tasks, bars) in enumerate(zip(TASKS, rates, strict=True)):
        axes = place(figure, left + number * (share + gap), share, below=0.15)
        _panel(axes, f"{quorum.case_name(tasks)}, cycles per second", bars, named=number == 0)
    axes = place(figure, 0.755, 0.985 - 0.755, below=0.15)
    _panel(axes, f"{title(OURS)}, p50 of acquire, ms", waits, named=True)
    heading(
        figure,
        "A quorum of five nodes",
        "Acquire + release, each task on a name of its own; median of the rounds with its "
        "interval.  Nodes and client share one machine.",
    )
    return figure


def _bars(
    results: Results, metric: str, factor: float, wanted: Sequence[tuple[str, str, str]]
) -> list[Bar]:
    found = []
    for about, case, side in wanted:
        interval = results.interval("quorum", case, side, metric)
        if interval is not None:
            median, low, high = (
                factor * each for each in (interval.median, interval.low, interval.high)
            )
            found.append((about, side, replace(interval, median=median, low=low, high=high)))
    return found


def _panel(axes: Axes, name: str, bars: Sequence[Bar], *, named: bool) -> None:
    for row, (_, side, found) in enumerate(bars):
        colour = COLOURS.get(side, INK)
        axes.barh(row, found.median, height=0.62, color=colour)
        axes.plot((found.low, found.high), (row, row), color=INK, linewidth=1)
        text = f"{found.median:,.0f}" if found.median >= 100 else f"{found.median:.3g}"
        axes.text(max(found.high, found.median), row, f" {text}", va="center", fontsize=9)
    axes.set_title(name, fontsize=9)
    axes.set_xlim(0, axes.get_xlim()[1] * 1.25)
    axes.set_ylim(len(bars) - 0.45, -0.55)
    axes.grid(visible=False)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    labels = [about for about, _, _ in bars] if named else []
    axes.set_yticks(range(len(bars)) if named else [], labels, fontsize=8)
    axes.tick_params(length=0)
