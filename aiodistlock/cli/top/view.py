"""How a frame looks, on a terminal and as JSON."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from aiodistlock.cli.console import shown
from aiodistlock.cli.survey.report import held_by, to_json, ttl_of

from .meter import Frame

_AROUND = 6
"""Lines of a screen that are not rows of the table."""


def render(frame: Frame, height: int | None, trouble: str | None = None) -> RenderableType:
    """
    Return what to print.

    :param height: lines of the screen, ``None`` for no bound
    :param trouble: why this is not the newest
    """
    head = Text.assemble(
        ("aiodistlock top", "bold"),
        f"  held {frame.held}  waiting {frame.waiters}  hand-offs/s ≥ {frame.rate:.1f}"
        f"  longest wait {frame.longest_wait:.1f} s",
    )
    room = len(frame.rows) if height is None else max(1, height - _AROUND)
    # Expanded, or ratios do not count, and long names would push the figures out.
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0), expand=True)
    for column in ("name", "holder"):
        table.add_column(column, overflow="ellipsis", no_wrap=True, ratio=1)
    for column in ("ttl", "waiting", "longest wait", "hand-offs/s"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in frame.rows[:room]:
        state = row.state
        wait = f"{state.longest_wait:.1f} s" if state.waiters else "-"
        table.add_row(
            Text(shown(state.name)),
            held_by(state),
            ttl_of(state),
            Text(str(len(state.waiters) or "-")),
            Text(wait),
            Text(f"{row.rate:.1f}" if row.rate else "-"),
        )
    parts: list[RenderableType] = [head, Text(), table]
    if len(frame.rows) > room:
        parts.append(Text(f"… and {len(frame.rows) - room} more", "dim"))
    if not frame.rows:
        parts.append(Text("no lock is held", "dim"))
    if trouble is not None:
        parts.append(Text(shown(trouble), "red"))
    return Group(*parts)


def frame_to_json(frame: Frame) -> dict[str, Any]:
    """Return a frame as JSON; seconds, and instants as seconds since 1970."""
    return {
        "at": round(time.time(), 3),
        "held": frame.held,
        "waiting": frame.waiters,
        "handoffs_per_second": round(frame.rate, 3),
        "longest_wait": round(frame.longest_wait, 3),
        "locks": [
            {
                **to_json(row.state, frame.nodes),
                "longest_wait": round(row.state.longest_wait, 3),
                "handoffs_per_second": round(row.rate, 3),
            }
            for row in frame.rows
        ],
    }
