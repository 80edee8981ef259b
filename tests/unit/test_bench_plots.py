"""What the bench draws."""

from pathlib import Path
from random import Random
from typing import Any

import pytest

pytest.importorskip("matplotlib", reason="needs the dependency group plots")

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console

from bench import cli, plots
from bench.results import Results, Sample
from bench.worker.record import histogram
from bench.workloads import handoff, herd, hot, quorum, renewal, throughput

CASES = {
    "throughput": [throughput.case_name(tasks) for tasks in (1, 64, 1024)],
    "hot": [hot.case_name(50, 0.0), hot.case_name(50, 0.0, hot.PROCESSES)],
    "handoff": [handoff.CASE],
    "herd": [herd.case_name(clients) for clients in (10, 1000)],
    "renewal": [renewal.case_name(1000)],
    "quorum": [quorum.case_name(1), quorum.case_name(64), quorum.case_name(64, "killed")],
}


def metrics(rng: Random) -> dict[str, Any]:
    """Return all that any figure shows, as long as floats are."""
    waits = [rng.random() for _ in range(20)]
    names = ("rate", "p50", "client_cpu", "server_cpu", "server_us", "requests", "bytes")
    return {
        **{name: 1000 * rng.random() for name in (*names, "lag_p99")},
        "starved": 1,
        "shares": [1.0],
        "cycles": 190,
        "counts": [*range(20)],
        "longest_by_task": waits,
        "histogram": histogram(waits),
    }


def measured() -> Results:
    """Build a run that everything can be drawn of."""
    rng = Random(7)
    found = [
        Sample(workload, case, side, number, metrics(rng))
        for workload, cases in CASES.items()
        for case in cases
        for side in ("aiodistlock", "redis-py", "python-redis-lock")
        for number in range(3)
        if (side, case) != ("python-redis-lock", throughput.case_name(1024))
    ]
    environment = {"libraries": {}, "peers": {}, "uncommitted": [], "commit": "0123456789"}
    return Results(environment=environment, samples=found, complete=True)


def texts(figure: Figure | None) -> list[str]:
    """Return what is written in the axes of a figure."""
    assert figure is not None
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_the_same_figures_give_the_same_files(tmp_path: Path) -> None:
    """Byte for byte, whoever draws them and when: a new drawing is no change."""
    folders = [tmp_path / name for name in ("once", "again")]
    for folder in folders:
        folder.mkdir()
        assert [path.stem for path in plots.draw(measured(), folder)] == list(plots.FIGURES)
    once, again = ({p.name: p.read_bytes() for p in folder.iterdir()} for folder in folders)
    assert len(once) == 2 * len(plots.FIGURES)
    assert once == again
    # The version is that of the machine that draws.
    assert not any(b"matplotlib version" in each.lower() for each in once.values())
    assert not any(b"<dc:title>Matplotlib v" in each for each in once.values())


def test_a_run_drawn_from_its_file_looks_as_it_did(tmp_path: Path) -> None:
    """The file has fewer digits than what was measured."""
    console = Console(quiet=True)
    cli._finish(console, measured(), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    [path] = tmp_path.glob("*.json")
    cli.main(redraw=path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_points_and_figures_of_a_hot_name_are_of_one_round() -> None:
    """Of that whose rate is the median, and so the one of the tables."""
    found = Results(
        samples=[
            Sample(
                "hot",
                hot.case_name(50, 0.0),
                "redis-py",
                number,
                {**metrics(Random(1)), "rate": rate, "starved": starved, "p50": p50},
            )
            for number, (rate, starved, p50) in enumerate(
                [(100.0, 9, 0.009), (200.0, 4, 0.004), (300.0, 0, 0.001)]
            )
        ]
    )
    figure = plots.hot.draw(found)
    assert texts(figure) == ["200/s, 4 got nothing"]
    assert figure is not None
    [bar] = figure.axes[0].lines
    assert list(np.asarray(bar.get_xdata())) == [4.0, 4.0]


def test_a_line_that_ends_early_says_where() -> None:
    """Its rate stands among those at more tasks."""
    written = texts(plots.throughput.draw(measured()))
    told = {text.split("  ")[0]: text for text in written}
    assert told["python-redis-lock"].endswith(" at 64 tasks")
    assert told["redis-py Lock"].replace(",", "").split()[-1].isdigit()
