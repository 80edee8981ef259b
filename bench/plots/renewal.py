"""What it costs to keep leases."""

from __future__ import annotations

from matplotlib.figure import Figure

from bench.peers.catalog import title
from bench.plots.style import COLOURS, INK, heading, place
from bench.results import Results

PANELS = (
    ("client_cpu", 100.0, "client CPU, % of a core"),
    ("server_cpu", 100.0, "server CPU, % of a core"),
    ("bytes", 1 / 1024, "client memory, KB/lease"),
    ("lag_p99", 1e3, "event-loop lag p99, ms"),
)


def draw(results: Results) -> Figure | None:
    """Draw one panel a metric, with bars by side and number of leases."""
    cases = results.cases("renewal")
    sides = results.sides("renewal")
    if not sides:
        return None
    figure = Figure(figsize=(9.6, 1.5 + 0.42 * len(sides) * len(cases)))
    left, right, gap = 0.155, 0.985, 0.03
    share = (right - left - gap * (len(PANELS) - 1)) / len(PANELS)
    rows = [(case, side) for case in cases for side in sides]
    for number, (metric, factor, name) in enumerate(PANELS):
        axes = place(figure, left + number * (share + gap), share, below=0.15)
        for row, (case, side) in enumerate(rows):
            found = results.interval("renewal", case, side, metric)
            if found is None:
                continue
            value = found.median * factor
            axes.barh(row, value, height=0.62, color=COLOURS.get(side, INK))
            axes.text(value, row, f" {value:.3g}", va="center", fontsize=9)
        axes.set_title(name, fontsize=9)
        axes.set_xlim(0, axes.get_xlim()[1] * 1.22)
        axes.set_ylim(len(rows) - 0.45, -0.55)
        axes.grid(visible=False)
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
        for row in range(len(sides), len(rows), len(sides)):
            axes.axhline(row - 0.5, color="#cccccc", linewidth=0.8)
        labels = [f"{title(side)}\n{case}" for case, side in rows] if number == 0 else []
        axes.set_yticks(range(len(rows)) if number == 0 else [], labels, fontsize=8)
        axes.tick_params(length=0)
    heading(
        figure,
        "Keeping leases",
        "Leases held at a ttl of 6 s.  Ours: one watchdog task; redis-py: one task per lock "
        "that renews every 2 s.",
    )
    return figure
