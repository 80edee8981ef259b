"""How a frame looks, on a terminal and as JSON."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from aiodistlock.cli.survey.report import held_by, to_json, ttl_of
from aiodistlock.core.durations import in_words
from aiodistlock.core.escaping import shown

from .meter import Frame, Row

_WIDE = 80
"""From so many columns on a table has room for names beside figures."""


def render(
    frame: Frame, width: int, height: int | None, trouble: str | None = None
) -> RenderableType:
    """
    Return what to print.

    :param width: columns of the screen: if few, each lock takes lines instead of columns
    :param height: lines of the screen, ``None`` for no bound
    :param trouble: why this is not the newest
    """
    table = _table if width >= _WIDE else _lines
    head = _head(frame, width)
    tail = []
    if not frame.rows:
        tail.append(Text("no lock is held", "dim"))
    if trouble is not None:
        tail.append(Text(shown(trouble), "red"))
    if height is None:
        return Group(*head, Text(), table(frame.rows), *tail)
    per_row = 1 if table is _table else 3
    # An empty line, a headline, what is left out, and the cursor's own line.
    around = len(head) + 4 + (2 if trouble is not None else 0)
    room = max(1, (height - around) // per_row)
    if len(frame.rows) > room:
        tail.insert(0, Text(f"… and {len(frame.rows) - room} more", "dim"))
    return Group(*head, Text(), table(frame.rows[:room]), *tail)


def _head(frame: Frame, width: int) -> list[Text]:
    counts = f"held {frame.held}  waiting {frame.waiters}"
    rates = f"hand-offs/s ≥ {frame.rate:.1f}  longest wait {in_words(frame.longest_wait)}"
    title = ("aiodistlock top", "bold")
    if width >= _WIDE:
        line = Text.assemble(title, f"  {counts}  {rates}  ", ("q: quit", "dim"))
        line.no_wrap, line.overflow = True, "ellipsis"
        return [line]
    lines = [counts, *([rates] if len(rates) <= width else rates.split("  "))]
    return [
        Text.assemble(title, "  ", ("q: quit", "dim")),
        *(Text(each, no_wrap=True, overflow="ellipsis") for each in lines),
    ]


def _table(rows: Sequence[Row]) -> Table:
    # Expanded, or ratios do not count, and long names would push the figures out.
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0), expand=True)
    for column in ("name", "holder"):
        table.add_column(column, overflow="ellipsis", no_wrap=True, ratio=1)
    for column in ("ttl", "waiting", "longest wait", "hand-offs/s"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        state = row.state
        wait = in_words(state.longest_wait) if state.waiters else "-"
        table.add_row(
            Text(shown(state.name)),
            held_by(state),
            ttl_of(state),
            Text(str(len(state.waiters) or "-")),
            Text(wait),
            Text(f"{row.rate:.1f}" if row.rate else "-"),
        )
    return table


def _lines(rows: Sequence[Row]) -> Table:
    """Return two or three lines for each lock: what it is called, who has it, who wants it."""
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0), expand=True)
    table.add_column(overflow="ellipsis", no_wrap=True, ratio=1)
    table.add_column(justify="right", no_wrap=True)
    for row in rows:
        state = row.state
        table.add_row(Text(shown(state.name), "bold"), ttl_of(state))
        rate = Text(f"{row.rate:.1f}/s" if row.rate else "")
        table.add_row(Text("  ").append_text(held_by(state)), rate)
        if state.waiters:
            waiting = f"  {len(state.waiters)} waiting, {in_words(state.longest_wait)}"
            table.add_row(Text(waiting, "yellow"))
    return table


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
