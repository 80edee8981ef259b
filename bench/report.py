"""Writes and prints what was measured."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table as RichTable

from bench import exclusion
from bench.results import Results
from bench.tables import Table, all_tables, headline, seed_table, target_table

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"


def show(results: Results, console: Console) -> None:
    """Print all tables."""
    console.print(headline(results))
    for table in all_tables(results):
        shown = RichTable(title=table.title, title_justify="left", caption=table.note or None)
        for number, name in enumerate(table.header):
            shown.add_column(
                name, justify="left" if number < table.words else "right", overflow="fold"
            )
        for row in table.rows:
            shown.add_row(*(cell.replace("**missed**", "[bold red]missed[/]") for cell in row))
        console.print(shown)
    for told in _checked(results):
        console.print(told)


def markdown(results: Results, plots: list[str]) -> str:
    """Return the report as Markdown; ``plots`` are paths beside it."""
    parts = [headline(results) + "."]
    if not results.complete:
        parts.append("**The run was cut short; what follows is what it measured until then.**")
    libraries = {**results.environment["libraries"], **results.environment["peers"]}
    parts.append("Versions: " + ", ".join(f"{name} {v}" for name, v in libraries.items()) + ".")
    if results.environment["uncommitted"]:
        parts.append("The working tree had changes that were not committed.")
    parts += _checked(results)
    parts += [_table(table) for table in all_tables(results)]
    parts += [f"![{Path(plot).stem}]({plot})" for plot in plots]
    return "\n\n".join(parts) + "\n"


def summary(results: Results, plots: list[str]) -> str:
    """Return what the README shows: the targets, the seed table, and the plots."""
    tables = [target_table(results)]
    if "seed" in results.workloads():
        tables.append(seed_table(results))
    parts = [headline(results) + ".", *_checked(results), *map(_table, tables)]
    parts += [f"![{Path(plot).stem}]({plot})" for plot in plots]
    return "\n\n".join([*parts, "All tables: [RESULTS.md](RESULTS.md)."]) + "\n"


def _checked(results: Results) -> list[str]:
    told = exclusion.sentence(results)
    return [told] if told else []


def _table(table: Table) -> str:
    rule = ["---" if number < table.words else "---:" for number in range(len(table.header))]
    lines = [table.header, rule, *table.rows]
    rows = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"### {table.title}\n\n{rows}" + (f"\n\n{table.note}" if table.note else "")


def write_between_markers(path: Path, text: str) -> None:
    """Replace what stands between the markers of a file; a new file gets both."""
    old = path.read_text() if path.exists() else f"# Results\n\n{BEGIN}\n{END}\n"
    head, _, rest = old.partition(BEGIN)
    _, _, tail = rest.partition(END)
    path.write_text(f"{head}{BEGIN}\n\n{text}\n{END}{tail}")
