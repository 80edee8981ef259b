"""What the user sees: a live panel per act, then one table.

Where the output is no terminal there are no panels and no redrawing: every line is
written once, when it happens.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, NoReturn

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from aiodistlock.console.errors import CommandError

from .figures import Figures
from .fleet import State
from .table import figures_table

_REDRAW_SECONDS: Final = 0.1
_WIDEST: Final = 100

_AS_TOLD: Final = (
    "As told: without a lock money is lost, with a naive lock one crash stops all, "
    "with AsyncLock every cent is right."
)

_LOOK: Final = {
    State.STARTING: ("○", "dim"),
    State.RUNNING: ("●", "green"),
    State.FROZEN: ("■", "yellow"),
    State.KILLED: ("✗", "red"),
    State.FINISHED: ("●", "dim green"),
}


@dataclass(frozen=True)
class Progress:
    """How far an act is. ``workers``: number, state, deliveries acknowledged."""

    done: int
    total: int
    seconds: float
    workers: list[tuple[int, State, int]]


@dataclass
class _Scene:
    """What is known of the act under way."""

    title: str
    told: str
    began_at: float = field(default_factory=time.monotonic)
    progress: Progress | None = None
    story: list[tuple[float, str]] = field(default_factory=list)
    verdict: tuple[bool, str] | None = None


class DemoConsole(Console):
    """A console whose closed pipe ends the demo the ordinary way."""

    def on_broken_pipe(self) -> NoReturn:
        """Raise what makes the demo clean up and end."""
        raise CommandError("nobody reads the output any more")


class Reporter(AbstractContextManager["Reporter"]):
    """Shows the demo on a console.

    :param console: where to; None shows nothing (``--json`` without a terminal)
    """

    def __init__(self, console: Console | None) -> None:
        self._console = console
        self._scene = _Scene("", "")
        self._live: Live | None = None
        self._drawn_at = 0.0

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close_scene()

    def open(self, redis: str, workers: int, events: int) -> None:
        """Say what is about to run, and on what."""
        told = f"{events:,} ledger events, {workers} worker processes, {redis}"
        self._print(Text.assemble(("aiodistlock demo", "bold"), f"  {told}"))

    def begin(self, number: int, title: str, told: str) -> None:
        """Open an act."""
        self._scene = _Scene(f"Act {number} of 3: {title}", told)
        if self._console is None:
            return
        if self._console.is_terminal:
            self._live = Live(self._panel(), console=self._console, auto_refresh=False)
            self._live.start()
        else:
            self._print(Text(f"\n{self._scene.title}\n  {told}"))

    def progress(self, progress: Progress) -> None:
        """Show how far the act is, if it is time to redraw."""
        self._scene.progress = progress
        if time.monotonic() - self._drawn_at >= _REDRAW_SECONDS:
            self._draw()

    def tell(self, line: str) -> None:
        """Add a line to the act's story."""
        seconds = time.monotonic() - self._scene.began_at
        self._scene.story.append((seconds, line))
        if self._live is None:
            self._print(Text(f"  {seconds:5.1f} s  {line}"))
        else:
            self._draw()

    def end(self, good: bool, told: str) -> None:
        """Close the act with its result."""
        self._scene.verdict = good, told
        if self._live is None:
            self._print(Text(f"  {_mark(good)} {told}"))
        self._close_scene()

    def summary(self, figures: Figures) -> None:
        """Show the table and what it amounts to."""
        self._print(Text())
        self._print(figures_table(figures))
        good = figures.as_told
        line = _AS_TOLD if good else "Not as told: see the last row."
        style = "bold green" if good else "bold red"
        self._print(Text(f"{_mark(good)} {line} ({figures.seconds:.0f} s)", style))
        back = figures.coming_back
        told = "every balance right" if back.exact else "balances WRONG"
        self._print(
            Text(
                "Where every wallet comes back to its process (here one, balances in memory, "
                f"{back.seconds:g} s each): {back.lingering_events_per_second:,.0f} events/s with "
                f"linger={back.linger:g}, {back.events_per_second:,.0f} without; {told}."
            )
        )

    def _close_scene(self) -> None:
        if self._live is not None:
            self._draw()
            self._live.stop()
            self._live = None

    def _draw(self) -> None:
        self._drawn_at = time.monotonic()
        if self._live is not None:
            self._live.update(self._panel(), refresh=True)

    def _print(self, what: RenderableType) -> None:
        if self._console is not None:
            # Lines of a log are not cut: they may be searched.
            self._console.print(what, soft_wrap=not self._console.is_terminal)

    def _panel(self) -> Panel:
        scene = self._scene
        rows: list[RenderableType] = [Text(scene.told, "dim")]
        if scene.progress is not None:
            rows += [Text(), _bar(scene.progress), _workers(scene.progress)]
        if scene.story:
            rows += [Text(), _story(scene.story)]
        border = "cyan"
        if scene.verdict is not None:
            good, told = scene.verdict
            border = "green" if good else "red"
            rows += [Text(), Text(f"{_mark(good)} {told}", f"bold {border}")]
        assert self._console is not None
        return Panel(
            Group(*rows),
            title=Text(scene.title, "bold"),
            title_align="left",
            border_style=border,
            width=min(self._console.width, _WIDEST),
        )


def _mark(good: bool) -> str:
    return "✓" if good else "✗"


def _bar(progress: Progress) -> Table:
    rate = progress.done / max(progress.seconds, 0.001)
    row = Table.grid(padding=(0, 2), expand=True)
    row.add_column(ratio=1)
    row.add_column(justify="right", no_wrap=True)
    told = f"{progress.done:,} of {progress.total:,} events   {rate:,.0f}/s"
    row.add_row(
        ProgressBar(total=progress.total, completed=progress.done),
        Text(f"{told}   {progress.seconds:.1f} s"),
    )
    return row


def _workers(progress: Progress) -> Text:
    line = Text("workers")
    for number, state, acked in progress.workers:
        sign, style = _LOOK[state]
        line.append(f"   {sign} {number} ", style)
        working = state in (State.RUNNING, State.FINISHED)
        line.append(f"{acked:,}" if working else str(state), style)
    return line


def _story(story: list[tuple[float, str]]) -> Table:
    rows = Table.grid(padding=(0, 2))
    rows.add_column(justify="right", style="dim", no_wrap=True)
    rows.add_column()
    for seconds, line in story:
        rows.add_row(f"{seconds:.1f} s", Text(line))
    return rows
