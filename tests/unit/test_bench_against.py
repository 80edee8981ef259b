"""Another commit of this repository as a lock of the bench."""

import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("matplotlib", reason="needs the dependency group plots")

from bench import cli, exclusion, tables
from bench.peers import catalog, installs
from bench.peers.catalog import AT, OURS, Side
from bench.plan import Plan
from bench.results import Results, Sample
from bench.workloads import hot, throughput

FORMER = f"{AT}0123456789"

PLAN = Plan(quick=False, repeat=5, peers=[FORMER, OURS, "redis-py"])


@pytest.fixture
def commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The commit that is checked out, and a cache folder that nobody else uses."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    installs.commit_command.cache_clear()
    try:
        return installs.short_commit("HEAD")
    except installs.NotInstallable as error:
        pytest.skip(f"needs the repository: {error}")


def test_a_commit_is_measured_with_its_own_package_and_the_bench_of_this_tree(
    commit: str, tmp_path: Path
) -> None:
    """Whatever folder the worker starts in, and with all that is installed here."""
    command = catalog.info(AT + commit).command()
    assert command == installs.commit_command(commit), "made once"
    python = command[: command.index("-m")]
    program = "import aiodistlock, bench.worker, redis; "
    program += "print(aiodistlock.__file__, bench.worker.__file__, redis.__file__)"
    done = subprocess.run(
        [*python, "-c", program], cwd=installs.ROOT, capture_output=True, text=True, check=True
    )
    package, worker, library = map(Path, done.stdout.split())
    assert package.is_relative_to(tmp_path)
    assert worker.is_relative_to(installs.ROOT)
    assert not library.is_relative_to(tmp_path)
    assert [each.name for each in tmp_path.glob("*/*")] == [f"commit-{commit}"]


def test_a_commit_that_is_none_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    """The option is named, and what git says of it."""
    options = ["--against", "no-such-commit", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(cli.app, options)
    assert done.exit_code == 2
    assert "--against" in done.output
    assert not (tmp_path / "out").exists()


def test_a_commit_has_its_turn_wherever_ours_is_beside_others() -> None:
    """On the same loops, with as many tasks and processes; and its title needs no catalog."""
    for workload in (throughput.THROUGHPUT, hot.HOT):
        for case in workload.cases(PLAN):
            loops = [side.loop for side in case.sides if side.peer == OURS]
            assert [side.loop for side in case.sides if side.peer == FORMER] == loops != []
    assert catalog.title(Side(FORMER, "uvloop").key) == f"{FORMER}, uvloop"
    assert Side(FORMER).info.version("") == "0123456789"


def test_a_commit_is_compared_within_the_rounds() -> None:
    """Ours as a multiple of it, of each loop; and its cycles say nothing of our exclusion."""
    case = hot.case_name(50, 0.0)
    found = Results(
        samples=[
            Sample("hot", case, side, number, {"rate": rate * (number + 1), "cycles": 7})
            for side, rate in ((OURS, 30.0), (FORMER, 20.0), (f"{FORMER}/uvloop", 50.0))
            for number in range(2)
        ]
    )
    table = next(each for each in tables.all_tables(found) if each.title == "Beside another commit")
    assert [row[:3] for row in table.rows] == [
        (f"hot, {case}", FORMER, f"1.5 (1.5 {tables.NONE} 1.5)"),
        (f"hot, {case}", f"{FORMER}, uvloop", tables.NONE),
    ]
    assert exclusion.contended(found) == (14, 0)
