"""The table at the end: three acts side by side."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from .figures import Figures

_NONE = "-"


def figures_table(figures: Figures) -> Table:
    """Lay out the figures of the three acts."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for act in ("no lock", "naive SETNX", "AsyncLock"):
        table.add_column(act, justify="right", overflow="fold")
    for what, *cells in _rows(figures):
        table.add_row(what, *cells)
    table.add_section()
    table.add_row(Text("result", "bold"), *_results(figures))
    return table


def _rows(figures: Figures) -> list[tuple[str, ...]]:
    bare, naive, lock = figures.no_lock, figures.naive_setnx, figures.async_lock
    applied = lock.events - lock.missing_events
    to_grant = _seconds(lock.kill_to_next_grant_s)
    waits = f"{lock.acquire_p50_ms:.1f} / {lock.acquire_p99_ms:.1f} ms"
    rows: list[tuple[str, object, object, object]] = [
        (
            "events applied",
            f"{bare.events:,} of {bare.events:,}",
            f"{naive.applied:,} of {naive.events:,}",
            f"{applied:,} of {lock.events:,}",
        ),
        ("workers killed inside", 0, naive.killed_workers, lock.killed_workers),
        ("workers frozen inside", 0, 0, lock.frozen_workers),
        ("lost updates", bare.lost_updates, _NONE, lock.lost_updates),
        ("events applied twice", bare.applied_twice, _NONE, lock.applied_twice),
        ("wrong balances", bare.wrong_wallets, _NONE, lock.wrong_wallets),
        ("stale writes refused", _NONE, _NONE, lock.refused_stale_writes),
        ("kill to next grant", _NONE, "never" if naive.dead_lock else _NONE, to_grant),
        ("freeze to next grant", _NONE, _NONE, _seconds(lock.freeze_to_next_grant_s)),
        ("acquire p50 / p99", _NONE, _NONE, waits),
        ("events/s", bare.events_per_second, _NONE, lock.events_per_second),
    ]
    return [(row[0], *(_cell(value) for value in row[1:])) for row in rows]


def _cell(value: object) -> str:
    return f"{value:,.0f}" if isinstance(value, int | float) else str(value)


def _results(figures: Figures) -> list[Text]:
    bare, naive, lock = figures.no_lock, figures.naive_setnx, figures.async_lock
    return [
        Text("money lost", "red") if bare.as_told else Text("nothing lost", "yellow"),
        Text("dead-lock", "red") if naive.as_told else Text("no dead-lock", "yellow"),
        Text("exact", "bold green") if lock.as_told else Text("WRONG", "bold red"),
    ]


def _seconds(values: list[float]) -> str:
    return ", ".join(f"{value:.2f}" for value in values) + " s" if values else _NONE
