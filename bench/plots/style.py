"""One look for all figures: colours that colour-blind readers can tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

INK, FAINT = "#222222", "#8a8a8a"

# M. Okabe, K. Ito, "Color Universal Design", 2008; yellow, which vanishes on white, is
# replaced by a brown.
COLOURS = {
    "aiodistlock": "#0072B2",
    "aiodistlock/uvloop": "#56B4E9",
    "redis-py": "#D55E00",
    "mutex": "#222222",
    "pottery": "#009E73",
    "coredis": "#CC79A7",
    "python-redis-lock": "#E69F00",
    "aioredlock": "#7F5539",
    "node-redlock": "#8a8a8a",
}

MARKERS = {
    "aiodistlock": "o",
    "aiodistlock/uvloop": "o",
    "redis-py": "s",
    "mutex": "D",
    "pottery": "^",
    "coredis": "v",
    "python-redis-lock": "P",
    "aioredlock": "X",
    "node-redlock": "d",
}

# Any: matplotlib has a Literal of all its names for the keys.
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
    "lines.linewidth": 1.8,
    "figure.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "aiodistlock",
}


def width(side: str) -> float:
    """Return the line width of a side: ours and the reference stand out."""
    return 2.4 if side in ("aiodistlock", "redis-py") else 1.5


def plain(value: float, _position: int | None = None) -> str:
    """Write a number without powers of ten: 1k for 1000."""
    if value >= 1_000_000:
        return f"{value / 1_000_000:g}M"
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"


def log_ticks(axes: Axes, which: str) -> None:
    """Label a logarithmic axis with plain numbers, at powers of ten only."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(FuncFormatter(plain))
    axis.set_minor_formatter(NullFormatter())


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Move label positions apart until they are ``gap`` from each other, in order."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    moved = list(places)
    for _ in range(200):
        for lower, upper in pairwise(order):
            lacking = gap - (moved[upper] - moved[lower])
            if lacking > 1e-9:
                moved[lower] -= lacking / 2
                moved[upper] += lacking / 2
    return moved


def place(figure: Figure, left: float, width: float, *, below: float = 0.55) -> Axes:
    """
    Add axes under the heading, whatever the figure's height.

    :param left: as a share of the figure, as ``width`` is
    :param below: room for the labels of the x axis, inches
    """
    inches = figure.get_size_inches()[1]
    above = 0.98
    return figure.add_axes((left, below / inches, width, 1 - (below + above) / inches))


def heading(figure: Figure, title: str, about: str) -> None:
    """Put a title, and below it what is shown, over the whole figure."""
    figure.suptitle(title, x=0.012, y=0.985, ha="left", va="top", fontsize=13, fontweight="bold")
    inches = figure.get_size_inches()[1]
    figure.text(0.012, 0.985 - 0.29 / inches, about, ha="left", va="top", fontsize=9, color="#555")
