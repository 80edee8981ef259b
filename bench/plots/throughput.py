"""Cycles a second over tasks, names of their own."""

from __future__ import annotations

import math

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from bench.peers.catalog import title
from bench.plots.style import COLOURS, INK, MARKERS, heading, log_ticks, spread, width
from bench.results import Results


def label(side: str, rate: float, tasks: int | None = None) -> str:
    """Say whose line ends here and how high; ``tasks`` where others go on."""
    where = "" if tasks is None else f" at {tasks} tasks"
    return f"{title(side)}  {rate:,.0f}{where}"


def draw(results: Results) -> Figure | None:
    """Draw one line for each side, labelled at its end."""
    cases = {int(case.split()[0]): case for case in results.cases("throughput")}
    if len(cases) < 2:
        return None
    figure = Figure(figsize=(9.2, 5.2))
    axes = figure.add_axes((0.08, 0.11, 0.6, 0.74))
    ends = []
    for side in results.sides("throughput"):
        points = [
            (tasks, found)
            for tasks, case in cases.items()
            if (found := results.interval("throughput", case, side, "rate")) is not None
            # On a busy machine a short round may end before any cycle: no place on this axis.
            and found.median > 0
        ]
        if not points:
            continue
        colour = COLOURS.get(side, INK)
        x = [tasks for tasks, _ in points]
        y = [found.median for _, found in points]
        below = [found.low for _, found in points]
        above = [found.high for _, found in points]
        axes.fill_between(x, below, above, color=colour, alpha=0.15, linewidth=0)
        marker = MARKERS.get(side, "o")
        axes.plot(x, y, color=colour, marker=marker, markersize=5, linewidth=width(side))
        ends.append((side, x[-1], y[-1]))
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(FixedLocator(list(cases)))
    log_ticks(axes, "x")
    axes.xaxis.set_major_formatter(lambda value, _position: f"{value:g}")
    log_ticks(axes, "y")
    axes.set_xlabel("tasks, each with a lock of its own")
    axes.set_ylabel("acquire + release, cycles per second")
    low, high = map(math.log10, axes.get_ylim())
    places = spread([math.log10(y) for _, _, y in ends], (high - low) * 0.047)
    for (side, x_end, y_end), place in zip(ends, places, strict=True):
        early = x_end < max(cases)
        line = {"arrowstyle": "-", "color": COLOURS.get(side, INK), "lw": 0.5}
        axes.annotate(
            label(side, y_end, x_end if early else None),
            (x_end, y_end),
            (max(cases) * 1.25, 10**place),
            color=COLOURS.get(side, INK),
            va="center",
            fontsize=9,
            fontweight="bold" if side.startswith("aiodistlock") else "normal",
            annotation_clip=False,
            # Dotted where nothing was measured: drawn through, it looks like a curve.
            arrowprops=line | {"ls": ":", "lw": 1.0} if early else line,
        )
    heading(
        figure,
        "Throughput without contention",
        "Median of the rounds with its interval; one process, one local Redis.  Logarithmic.",
    )
    return figure
