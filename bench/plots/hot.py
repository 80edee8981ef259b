"""Who waits how long for a hot name: each task a point."""

from __future__ import annotations

from random import Random

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.peers.catalog import MUTEX, title
from bench.plots.style import COLOURS, INK, heading, log_ticks, place
from bench.results import Results, Sample
from bench.workloads import hot

PANELS = (
    (hot.case_name(50, 0.0), "one process, 50 tasks"),
    (hot.case_name(50, 0.0, hot.PROCESSES), "4 processes of 50 tasks each"),
)


def draw(results: Results) -> Figure | None:
    """Draw the longest wait of each task in the round of median rate, one panel a case."""
    panels = [panel for panel in PANELS if results.sides("hot", panel[0])]
    if not panels:
        return None
    figure = Figure(
        figsize=(9.6, 1.6 + 0.42 * max(len(results.sides("hot", p)) for p, _ in panels))
    )
    left, right, gap = 0.175, 0.985, 0.06
    share = (right - left - gap * (len(panels) - 1)) / len(panels)
    every = list(dict.fromkeys(side for case, _ in panels for side in results.sides("hot", case)))
    for number, (case, about) in enumerate(panels):
        axes = place(figure, left + number * (share + gap), share)
        _panel(axes, results, case, every)
        axes.set_title(about, fontsize=10)
        if number == 0:
            axes.set_yticks(range(len(every)), [title(side) for side in every])
        else:
            axes.set_yticks(range(len(every)), [""] * len(every))
    heading(
        figure,
        "Waiting for a hot name",
        "Each lock in its round of median rate.  A point is one task: its longest wait; a cross: "
        "it got nothing.  Bar: the median wait.  Right: cycles per second.",
    )
    return figure


def _panel(axes: Axes, results: Results, case: str, every: list[str]) -> None:
    rng = Random(1)
    for row, side in enumerate(every):
        sample = results.typical("hot", case, side, "rate")
        if sample is None:
            axes.text(
                0.02,
                row,
                "not measured" if side != MUTEX else "works in one process only",
                transform=axes.get_yaxis_transform(),
                va="center",
                fontsize=8,
                color="#999",
            )
            continue
        _row(axes, sample, row, rng, COLOURS.get(side, INK))
        starved = sample.metrics["starved"]
        told = f"{sample.metrics['rate']:,.0f}/s" + (f", {starved} got nothing" if starved else "")
        axes.text(
            1.0,
            row - 0.34,
            told,
            transform=axes.get_yaxis_transform(),
            ha="right",
            va="center",
            fontsize=8,
            color=COLOURS.get(side, INK),
        )
    axes.set_xscale("log")
    log_ticks(axes, "x")
    axes.set_xlabel("milliseconds, logarithmic")
    low, high = axes.get_xlim()
    axes.set_xlim(low, high * 2.2)
    axes.set_ylim(len(every) - 0.5, -0.6)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)


def _row(axes: Axes, sample: Sample, row: int, rng: Random, colour: str) -> None:
    longest = [1e3 * max(wait, 1e-6) for wait in sample.metrics["longest_by_task"]]
    heights = [row + rng.uniform(-0.2, 0.2) for _ in longest]
    got = [count > 0 for count in sample.metrics["counts"]]
    for wanted, marker, size in ((True, "o", 12), (False, "x", 14)):
        chosen = [i for i, each in enumerate(got) if each is wanted]
        axes.scatter(
            [longest[i] for i in chosen],
            [heights[i] for i in chosen],
            s=size,
            marker=marker,
            color=colour,
            alpha=0.55,
            linewidths=0.8 if marker == "x" else 0,
        )
    median = 1e3 * max(sample.metrics["p50"], 1e-6)
    axes.plot([median, median], [row - 0.26, row + 0.26], color=colour, linewidth=2.2)
