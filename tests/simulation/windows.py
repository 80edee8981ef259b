"""What is done once a window: which ones are, by the word of who did them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.judge import Judge


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

    def _mark(self, name: str, window: int, asked_at: float) -> None:
        # What was lost meanwhile may be this mark.
        if asked_at > self._judge.broken_at:
            self._marked[name] = max(window, self._marked.get(name, -1))
