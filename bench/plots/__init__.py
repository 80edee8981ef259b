"""Draws a run, each figure as PNG and SVG."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

from matplotlib.figure import Figure  # after the backend is chosen

from bench.plots import herd, hot, latency, quorum, renewal, throughput
from bench.plots.style import STYLE
from bench.results import Results

FIGURES: dict[str, Callable[[Results], Figure | None]] = {
    "throughput": throughput.draw,
    "latency": latency.draw,
    "hot": hot.draw,
    "herd": herd.draw,
    "renewal": renewal.draw,
    "quorum": quorum.draw,
}

PNG, SVG = ("Software",), ("Creator", "Date")
"""What matplotlib would write of itself and the moment: the same figures give the same file."""


def draw(results: Results, folder: Path) -> list[Path]:
    """Draw what there are figures for; return the PNG files, each with an SVG beside it."""
    drawn = []
    with mpl.rc_context(STYLE):
        for name, make in FIGURES.items():
            figure = make(results)
            if figure is None:
                continue
            path = folder / f"{name}.png"
            for file, without in ((path, PNG), (path.with_suffix(".svg"), SVG)):
                figure.savefig(file, dpi=160, metadata=dict.fromkeys(without))
            drawn.append(path)
    return drawn
