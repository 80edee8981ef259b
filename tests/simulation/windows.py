"""What is done once a window: which ones are, by the word of who did them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.judge import Judge
    from tests.simulation.known import Held

NEARLY = 0.5
"""Seconds by which a server's clock is not the true time, and more than a window is long."""


class Windows:
    """
    Notes it when a window is begun, or done, that was done before (``once``).

    Judged while no server loses data, and of those that asked since: then a mark stays.
    """

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._marked: dict[str, int] = {}
        """The highest window of each name that was marked."""
        self._done: set[tuple[str, int]] = set()

    def forget(self) -> None:
        """Take in that marks may be lost."""
        self._marked.clear()
        self._done.clear()

    def told(self, name: str, since: float, asked_at: float) -> None:
        """Take in the window that a server's clock tells, by its beginning, in true time."""
        judge = self._judge
        right = asked_at - NEARLY < since < judge.now + NEARLY
        if judge.broken_at < 0 and not right:
            judge.note("once", f"the window of {name} began at {since:.3f} s, by what clock?")

    def begins(self, name: str, window: int, asked_at: float, *, marked: bool) -> None:
        """
        Take in that a window is begun.

        :param marked: whether it is to be begun at most once
        """
        known = self._marked.get(name, -1)
        if known >= window and asked_at > self._judge.broken_at:
            self._judge.note("once", f"window {window} of {name} begins, and {known} was marked")
        if marked:
            self._mark(name, window, asked_at)

    def done(self, name: str, window: int, asked_at: float) -> None:
        """Take in that a window is done, and marked: perhaps long ago, as answers may be slow."""
        if (name, window) in self._done and asked_at > self._judge.broken_at:
            self._judge.note("once", f"window {window} of {name} is done for the second time")
        self._mark(name, window, asked_at)
        if asked_at > self._judge.broken_at:
            self._done.add((name, window))

    def lost(self, held: Held, error: str) -> None:
        """Take in that a lease that had outlasted its run was said to be lost."""
        lease, judge = held.lease._process_lease, self._judge
        # Nobody takes it from its holder before its deadline.
        if lease.validity_at(held.process.turned_at) > 0.0 and held.grant.at > judge.broken_at:
            judge.note("once", f"{held} was not over, and its end was refused: {error}")

    def _mark(self, name: str, window: int, asked_at: float) -> None:
        # What was lost meanwhile may be this mark.
        if asked_at > self._judge.broken_at:
            self._marked[name] = max(window, self._marked.get(name, -1))
