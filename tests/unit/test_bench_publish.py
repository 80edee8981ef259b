"""Which runs of the bench replace the published figures."""

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="needs the dependency group plots")

from typer.testing import CliRunner

from bench import cli, publish
from bench.peers.catalog import PEERS
from bench.publish import Destination, destination, lacking
from bench.results import Results, Sample
from bench.workloads import WORKLOADS

FACTS = {"libraries": {}, "uncommitted": [], "commit": "0123456789", "quick": False}


def run(rounds: int = 5) -> Results:
    """Build a run of record."""
    return Results(
        environment={**FACTS, "peers": dict.fromkeys(PEERS, "1")},
        samples=[
            Sample(name, "64 tasks", "aiodistlock", number, {"error": "not measured"})
            for name in WORKLOADS
            for number in range(rounds)
        ],
        complete=True,
    )


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put the bench's own files elsewhere."""
    here = (tmp_path / "bench").resolve()
    (here / "results").mkdir(parents=True)
    (here / "README.md").write_text("published\n")
    for module in (publish, cli):
        monkeypatch.setattr(module, "HERE", here)
        monkeypatch.setattr(module, "OUT", here / "results")
    monkeypatch.setattr(publish, "PARTIAL", here / "results" / "partial")
    return here


def partial() -> dict[str, Results]:
    """Return runs that each lack one thing, by what that is."""
    full = run()
    peers = {peer: "1" for peer in PEERS if peer != "etcd"}
    return {
        "it was cut short": replace(full, complete=False),
        "it was quick": replace(full, environment={**full.environment, "quick": True}),
        "without etcd": replace(full, environment={**full.environment, "peers": peers}),
        "without hot": replace(full, samples=[s for s in full.samples if s.workload != "hot"]),
        "4 of 5 rounds": run(rounds=4),
    }


@pytest.mark.parametrize("lacks", list(partial()))
def test_a_run_that_lacks_anything_is_not_published(lacks: str, here: Path) -> None:
    """It goes into a folder of its own, and says what it lacks."""
    found = partial()[lacks]
    assert lacking(found) == lacks
    expected = Destination(here / "results" / "partial", published=False)
    assert destination(found, here / "results") == expected


def test_a_full_run_is_published_from_the_default_folder_only(here: Path) -> None:
    """Elsewhere it is written, but tells nothing to the README."""
    assert lacking(run()) == ""
    assert destination(run(), here / "results") == Destination(here / "results", published=True)
    elsewhere = destination(run(), here / "elsewhere")
    assert elsewhere == Destination(here / "elsewhere", published=False)
    assert elsewhere.tables == here / "elsewhere" / "RESULTS.md"


def test_a_lock_that_cannot_run_here_is_not_missed() -> None:
    """All locks that can run are all locks."""
    found = run()
    found.missing["etcd"] = "no etcd on PATH"
    del found.environment["peers"]["etcd"]
    assert lacking(found) == ""


@pytest.mark.parametrize("rounds", [5, 1])
def test_a_file_is_drawn_again_by_a_relative_path(
    rounds: int, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is judged as the run was that wrote it."""
    run(rounds).save(here / "results" / "run.json")
    monkeypatch.chdir(here)
    done = CliRunner().invoke(cli.app, ["--redraw", "results/run.json"])
    assert done.exit_code == 0, done.output
    published = rounds == 5
    assert ("bench:begin" in (here / "README.md").read_text()) is published
    assert (here / "RESULTS.md").exists() is published
    assert (here / "results" / "partial" / "RESULTS.md").exists() is not published


def test_a_quick_run_leaves_the_published_plots_alone(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in the folder where they are."""
    plot = here / "results" / "quorum.png"
    plot.write_text("published")
    quorum = [
        Sample("quorum", "1 task", "aiodistlock", number, {"rate": 1.0, "p50": 0.1})
        for number in range(2)
    ]

    def measure(*arguments: object) -> None:
        found = arguments[-1]
        assert isinstance(found, Results)
        found.environment = {**FACTS, "peers": {}, "quick": True}
        found.samples, found.complete = quorum, True

    monkeypatch.setattr(cli, "_measure", measure)
    done = CliRunner().invoke(cli.app, ["--quick", "--peers", "aiodistlock"])
    assert done.exit_code == 0, done.output
    assert plot.read_text() == "published"
    folder = here / "results" / "partial"
    assert len(list(folder.glob("*-partial.json"))) == 1
    assert (folder / "quorum.png").exists()
    assert (here / "README.md").read_text() == "published\n"
