"""What the user gets: a table with a verdict, or JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from aiodistlock.console.numbers import counted
from aiodistlock.core.escaping import one_line

from .facts import Deployment, Kind, NodeFacts
from .findings import Finding, Level, worst

_WIDEST: Final = 100

_LOOK: Final = {
    Level.DANGER: ("✗", "bold red"),
    Level.WARNING: ("!", "yellow"),
    Level.NOTE: ("i", "cyan"),
    Level.OK: ("✓", "green"),
}

_CALLED: Final = {
    Kind.SINGLE: "one Redis",
    Kind.SENTINEL: "Redis under Sentinel",
    Kind.CLUSTER: "Redis Cluster",
    Kind.QUORUM: "a quorum",
}


def show(console: Console, deployment: Deployment, findings: Sequence[Finding], ttl: float) -> None:
    """Print the findings, the worst first, and what they amount to."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for column in ("level", "check"):
        table.add_column(column, no_wrap=True)
    table.add_column("found", overflow="fold")
    everywhere = {node.place for node in (*deployment.nodes, *deployment.replicas)}
    for finding in findings:
        mark, style = _LOOK[finding.level]
        table.add_row(
            Text(f"{mark} {finding.level.name.lower()}", style),
            Text(finding.check),
            _told(finding, everywhere),
        )
    title = f"{_CALLED[deployment.kind]}, leases of {ttl:g} s"
    console.print(Text.assemble(("aiodistlock doctor", "bold"), f"  {title}"))
    for node in (*deployment.nodes, *deployment.replicas):
        console.print(Text(f"  {one_line(_described(node))}", "dim"), soft_wrap=True)
    console.print()
    console.print(table, width=min(console.width, _WIDEST))
    console.print()
    mark, style = _LOOK[worst(findings)]
    console.print(Text(f"{mark} {verdict(findings)}", style))


def _described(node: NodeFacts) -> str:
    if not node.version:
        return f"{node.place}  {'?' if node.error is None else 'did not answer'}"
    role = "replica" if node.is_replica else "primary"
    return f"{node.place}  {node.product}, {role}"


def _told(finding: Finding, everywhere: set[str]) -> Text:
    told = Text(one_line(finding.found))
    if finding.nodes and len(everywhere) > 1:
        where = "every node" if everywhere == set(finding.nodes) else ", ".join(finding.nodes)
        told = Text.assemble((f"{one_line(where)}: ", "dim"), told)
    if finding.advice:
        told.append(f"\n→ {one_line(finding.advice)}", "italic")
    return told


def verdict(findings: Sequence[Finding]) -> str:
    """Sum up in one line."""
    counts = {level: sum(each.level is level for each in findings) for level in Level}
    dangers = counted(counts[Level.DANGER], "danger")
    warnings = counted(counts[Level.WARNING], "warning")
    if counts[Level.DANGER]:
        also = f", {warnings}" if counts[Level.WARNING] else ""
        return f"Not fit for locks as it is: {dangers}{also}."
    if counts[Level.WARNING]:
        return f"Locks work here; {warnings} to look at."
    return "Nothing found that endangers locks here."


def to_json(deployment: Deployment, findings: Sequence[Finding], ttl: float) -> dict[str, Any]:
    """Return what ``--json`` prints; fields are added to it, never changed or removed."""
    return {
        "deployment": deployment.kind.value,
        "ttl": ttl,
        "verdict": worst(findings).name.lower(),
        "nodes": [_node(node) for node in (*deployment.nodes, *deployment.replicas)],
        "findings": [
            {
                "level": finding.level.name.lower(),
                "check": finding.check,
                "found": finding.found,
                "advice": finding.advice or None,
                "nodes": list(finding.nodes),
            }
            for finding in findings
        ],
    }


def _node(node: NodeFacts) -> dict[str, Any]:
    times, clock = node.round_trips, node.clock
    return {
        "address": node.place,
        "product": node.product if node.version else None,
        "role": ("replica" if node.is_replica else "primary") if node.version else None,
        "error": node.error,
        "round_trip_p50": times and times.p50,
        "round_trip_p99": times and times.p99,
        "clock_ahead": clock and clock.ahead,
        "clock_error": clock and clock.error,
        "cost": node.cost and asdict(node.cost),
    }
