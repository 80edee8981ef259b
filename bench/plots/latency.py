"""How long an acquire takes, and a hand-over between processes."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench import stats
from bench.peers.catalog import title
from bench.plots.style import COLOURS, FAINT, INK, heading, log_ticks, width
from bench.results import Results
from bench.worker.record import bucket_value
from bench.workloads import handoff, throughput

Row = tuple[float, float, str, str]

PANELS = (
    ("throughput", throughput.case_name(64), "acquire, 64 tasks on names of their own"),
    ("handoff", handoff.CASE, "release in one process to running in another"),
)


def draw(results: Results) -> Figure | None:
    """Draw the share of acquisitions that took at most so long, one panel a workload."""
    panels = [panel for panel in PANELS if results.sides(panel[0], panel[1])]
    if not panels:
        return None
    figure = Figure(figsize=(11.2, 4.6))
    share = 1 / len(panels)
    for number, (workload, case, about) in enumerate(panels):
        left = number * share + 0.067
        axes = figure.add_axes((left, 0.12, share * 0.45, 0.68))
        rows = _panel(axes, results, workload, case)
        axes.set_title(about, fontsize=10)
        if number == 0:
            axes.set_ylabel("share that took at most so long")
        _key(figure, left + share * 0.462, rows)
    heading(
        figure,
        "Latency",
        "All rounds together.  Beside each panel: median and 99th percentile, in milliseconds.",
    )
    return figure


def _panel(axes: Axes, results: Results, workload: str, case: str) -> list[Row]:
    """Draw the curves; return what the key says of each."""
    rows: list[Row] = []
    for side in results.sides(workload, case):
        found = [sample.metrics["histogram"] for sample in results.of(workload, case, side)]
        counts = stats.merged(found)
        total, so_far = sum(counts.values()), 0
        x, y = [], []
        for number, count in counts.items():
            so_far += count
            x.append(bucket_value(number) * 1e3)
            y.append(so_far / total)
        colour = COLOURS.get(side, INK)
        axes.step(x, y, where="post", color=colour, linewidth=width(side))
        p50, p99 = (stats.histogram_quantile(counts, each) * 1e3 for each in (0.5, 0.99))
        rows.append((p50, p99, title(side), colour))
    axes.set_xscale("log")
    log_ticks(axes, "x")
    axes.set_xlabel("milliseconds, logarithmic")
    axes.set_ylim(0, 1.005)
    axes.yaxis.set_major_formatter(lambda value, _position: f"{100 * value:.0f} %")
    return sorted(rows)


def _key(figure: Figure, left: float, rows: list[Row]) -> None:
    """Write a key in the order of the curves from left to right, with their figures."""
    top, step, p50_at, p99_at = 0.775, 0.052, 0.158, 0.196

    def write(place: float, y: float, text: str, **how: Any) -> None:
        figure.text(left + place, y, text, ha="left" if place == 0 else "right", **how)

    for place, text in ((p50_at, "p50"), (p99_at, "p99")):
        write(place, top, text, fontsize=8.5, color=FAINT)
    for number, (p50, p99, name, colour) in enumerate(rows, 1):
        bold = "bold" if name.startswith("aiodistlock") else "normal"
        for place, text in ((0, name), (p50_at, f"{p50:.3g}"), (p99_at, f"{p99:.3g}")):
            write(place, top - number * step, text, fontsize=8.5, color=colour, fontweight=bold)
