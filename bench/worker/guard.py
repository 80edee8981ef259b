"""Checks mutual exclusion while it is measured."""

from __future__ import annotations

import mmap
from collections.abc import MutableSequence
from pathlib import Path
from typing import cast

PAGE_BYTES = 16


class Guard:
    """
    Counts overlaps of critical sections.

    Two cells: who is inside, and a counter that each body reads when it enters and
    writes back, plus one, when it leaves.  Two bodies inside at once show in the first,
    and a write of a stale value in the second.

    :param cells: two integers, shared by all who want the name
    """

    def __init__(self, cells: MutableSequence[int]) -> None:
        self.cells = cells
        self._seen = 0
        self.overlaps = 0

    @classmethod
    def local(cls) -> Guard:
        """Build a guard for a name that one process wants."""
        return cls([0, 0])

    @classmethod
    def shared(cls, path: str) -> Guard:
        """Build a guard on a page of memory that several processes map."""
        with Path(path).open("r+b") as file:
            page = mmap.mmap(file.fileno(), PAGE_BYTES)
        return cls(cast("MutableSequence[int]", memoryview(page).cast("q")))

    def enter(self, who: int) -> None:
        """Take note that ``who`` (from 1) is inside."""
        cells = self.cells
        if cells[0] != 0:
            self.overlaps += 1
        cells[0] = who
        self._seen = cells[1]

    def leave(self, who: int) -> None:
        """Take note that ``who`` leaves."""
        cells = self.cells
        if cells[0] != who or cells[1] != self._seen:
            self.overlaps += 1
        cells[1] = self._seen + 1
        cells[0] = 0


def guards(tasks: int, *, hot: bool, page: str | None) -> list[Guard]:
    """Return one guard for each task; for a hot name they are all the same."""
    if not hot:
        return [Guard.local() for _ in range(tasks)]
    return [Guard.local() if page is None else Guard.shared(page)] * tasks
