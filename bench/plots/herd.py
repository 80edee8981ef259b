"""What a hand-off costs, however many wait."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator

from bench.peers.catalog import title
from bench.plots.style import COLOURS, INK, MARKERS, heading, log_ticks, place, width
from bench.results import Results

PANELS = (
    ("requests", 1.0, "requests/hand-off"),
    ("server_us", 1.0, "server CPU, µs/hand-off"),
    ("p50", 1e3, "gap p50, ms"),
)


def draw(results: Results) -> Figure | None:
    """Draw one panel a metric, with a line for each side over the number of clients."""
    cases = {int(case.split()[0].replace(",", "")): case for case in results.cases("herd")}
    sides = results.sides("herd")
    if len(cases) < 2 or not sides:
        return None
    figure = Figure(figsize=(10.4, 4.2))
    left, right, gap = 0.06, 0.985, 0.06
    share = (right - left - gap * (len(PANELS) - 1)) / len(PANELS)
    for number, (metric, factor, name) in enumerate(PANELS):
        axes = place(figure, left + number * (share + gap), share)
        for side in sides:
            points = [
                (clients, found.median * factor)
                for clients, case in cases.items()
                if (found := results.interval("herd", case, side, metric)) is not None
            ]
            axes.plot(
                [clients for clients, _ in points],
                [value for _, value in points],
                color=COLOURS.get(side, INK),
                marker=MARKERS.get(side, "o"),
                markersize=5,
                linewidth=width(side),
                label=title(side),
            )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.xaxis.set_major_locator(FixedLocator(list(cases)))
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        log_ticks(axes, "x")
        log_ticks(axes, "y")
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("clients that want the name")
        if number == 0:
            axes.legend(fontsize=8.5, frameon=False)
    heading(
        figure,
        "No herd",
        "Clients in two processes, bodies of 1 ms.  Gap: from the release to the next body.  "
        "Logarithmic.",
    )
    return figure
