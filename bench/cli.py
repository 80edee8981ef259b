"""The command line."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bench import environment, report
from bench.peers import installs
from bench.peers.catalog import AT, PEERS, info
from bench.plan import QUICK_ROUNDS, ROUNDS, Plan, Workload
from bench.publish import HERE, OUT, Destination, destination, lacking
from bench.results import Results
from bench.run import Run, total
from bench.server import BenchServer
from bench.workloads import WORKLOADS

PIPED_WIDTH = 150
"""Columns where the output is no terminal: in rich's 80 the tables cannot be read."""

app = typer.Typer(add_completion=False)


@app.command()
def main(
    *,
    quick: Annotated[bool, typer.Option(help="Less of everything: about two minutes.")] = False,
    only: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(WORKLOADS)}.")] = None,
    peers: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(PEERS)}.")] = None,
    repeat: Annotated[
        int | None, typer.Option(min=1, help=f"Rounds; {ROUNDS}, quick {QUICK_ROUNDS}.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="Measure the package as this commit has it, too.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results; bench/results, or the file's.")
    ] = None,
    redraw: Annotated[Path | None, typer.Option(help="Measure nothing: draw this file.")] = None,
) -> None:
    """
    Measure aiodistlock beside other locks.

    Several workloads or peers: repeat the option, or separate them by commas.  Ctrl-C
    ends the run and keeps what was measured.  Only a full run into the default folder
    rewrites its plots, ``bench/RESULTS.md`` and the figures in ``bench/README.md``; any
    other goes into a folder ``partial`` in there.
    """
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPED_WIDTH
    if redraw is not None:
        results = Results.read(redraw)
        report.show(results, console)
        _draw(console, results, destination(results, out or redraw.parent))
        return
    workloads = [WORKLOADS[name] for name in _chosen("--only", only, list(WORKLOADS))]
    wanted = _chosen("--peers", peers, list(PEERS))
    if against is not None:
        try:
            wanted.insert(0, AT + installs.short_commit(against))
        except installs.NotInstallable as error:
            raise typer.BadParameter(str(error), param_hint="--against") from error
    with console.status("looking which locks can be measured (the first time installs some)"):
        missing = {peer: why for peer in wanted if (why := info(peer).missing()) is not None}
    present = [peer for peer in wanted if peer not in missing]
    plan = Plan(quick, repeat or (QUICK_ROUNDS if quick else ROUNDS), present)
    results = Results(missing=missing)
    _measure(console, workloads, plan, results)
    _finish(console, results, out or OUT)
    if not results.complete:
        raise typer.Exit(130)


def _chosen(option: str, given: list[str] | None, known: list[str]) -> list[str]:
    if not given:
        return [*known]
    names = [name.strip() for each in given for name in each.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise typer.BadParameter(f"{name}: not one of {', '.join(known)}", param_hint=option)
    return [name for name in known if name in names]


def _measure(console: Console, workloads: list[Workload], plan: Plan, results: Results) -> None:
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with BenchServer() as server, Progress(*columns, console=console) as progress:
        results.environment = environment.describe(server.version, plan.peers)
        results.environment["quick"] = plan.quick
        task = progress.add_task("", total=total(workloads, plan))
        begun = False

        def step(description: str) -> None:
            nonlocal begun
            progress.update(task, description=description, advance=1 if begun else 0)
            begun = True

        try:
            Run(server, plan, results, step).measure(workloads)
        except KeyboardInterrupt:
            console.print("interrupted: what was measured until now follows")


def _finish(console: Console, results: Results, out: Path) -> None:
    if not results.samples:
        return
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    lacks = lacking(results)
    name = f"{day}-{results.environment['commit']}{'-partial' if lacks else ''}"
    where = destination(results, out)
    path = where.folder / f"{name}.json"
    results.save(path)
    # Tell what the file tells, which is rounded: then drawing it again changes nothing.
    results = Results.read(path)
    report.show(results, console)
    console.print(f"written: {path}" + (f" (no run of record: {lacks})" if lacks else ""))
    _draw(console, results, where)


def _draw(console: Console, results: Results, where: Destination) -> None:
    """Draw, and write the Markdown; what is published goes beside the bench itself."""
    from bench import plots

    where.folder.mkdir(parents=True, exist_ok=True)
    drawn = plots.draw(results, where.folder)
    links = [each.relative_to(where.tables.parent).as_posix() for each in drawn]
    report.write_between_markers(where.tables, report.markdown(results, links))
    if where.published:
        report.write_between_markers(HERE / "README.md", report.summary(results, links))
    console.print(f"written: {where.tables} and {len(links)} plots")
