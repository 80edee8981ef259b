"""How often locks change hands, from fencing tokens that rise.

Redis counts no hand-offs, but every lease has a higher fencing token: a token that rose
between two looks, or came up, is one hand-off, at least.  So what is measured is a lower
bound, and at most one for each look.  (Listening to the grants would count all.  But a
message is given up for lost only if nobody hears it, so whoever listens makes dead waiters
look alive.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from aiodistlock.cli.survey.state import LockState


class Meter:
    """Counts the fencing tokens that rise, from one reading to the next."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}
        self._rises: dict[str, int] = {}
        self._read_at: float | None = None

    def note(self, fences: Iterable[tuple[str, int]]) -> None:
        """Take in the fencing tokens of one look."""
        for name, fence in fences:
            # A name that the look before did not see was free then.
            first = 0 if self._read_at is not None else fence
            if fence > self._last.get(name, first):
                self._rises[name] = self._rises.get(name, 0) + 1
            if fence:
                self._last[name] = fence

    def keep(self, names: Iterable[str]) -> None:
        """Forget all other names."""
        self._last = {name: self._last[name] for name in names if name in self._last}

    def read(self, now: float) -> dict[str, float]:
        """Return hand-offs per second by name since the last reading, and start anew."""
        seconds = 0.0 if self._read_at is None else now - self._read_at
        rises, self._rises, self._read_at = self._rises, {}, now
        return {name: count / seconds for name, count in rises.items()} if seconds > 0 else {}


@dataclass(frozen=True, slots=True)
class Row:
    """A lock, and how often it changed hands in a second."""

    state: LockState
    rate: float


@dataclass(frozen=True, slots=True)
class Frame:
    """What there is to see at one instant."""

    rows: Sequence[Row]
    nodes: int

    @property
    def held(self) -> int:
        """How many locks are held."""
        return sum(row.state.is_held for row in self.rows)

    @property
    def waiters(self) -> int:
        """How many processes wait."""
        return sum(len(row.state.waiters) for row in self.rows)

    @property
    def rate(self) -> float:
        """Hand-offs per second of all locks, those that are free now as well."""
        return sum(row.rate for row in self.rows)

    @property
    def longest_wait(self) -> float:
        """Seconds for which somebody has waited."""
        return max((row.state.longest_wait for row in self.rows), default=0.0)


def frame(states: Iterable[LockState], rates: Mapping[str, float], nodes: int) -> Frame:
    """Return what to show: locks that live, those with the most and longest waits first."""
    rows = [Row(state, rates.get(state.name, 0.0)) for state in states]
    alive = [row for row in rows if row.state.in_use or row.rate]
    alive.sort(
        key=lambda row: (
            -len(row.state.waiters),
            -row.state.longest_wait,
            -row.rate,
            row.state.name,
        )
    )
    return Frame(alive, nodes)
