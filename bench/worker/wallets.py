"""The store of the ledger's balances: memory that all processes of a sample share.

Fast enough that the lock is what is measured.  What is written counts from one store of a
single word on, so a process that is killed at whatever point leaves a balance and what made it
whole.  A write under an older fencing token than the last is refused; but that look and the
write are not one step, as they would be in a database: it is the lock that excludes.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

PROCESSES = 4
"""How many write."""

MOST_EVENTS = 1 << 22
"""Of so many it is known whether they were applied."""

_RECORD = 7
"""Cells of a wallet: which half counts; of each half fencing token, cents, event."""


class Wallets:
    """
    Balances in cents, and which events made them; wallets and events are numbers from 0.

    :param path: a file of :meth:`size` bytes, all 0 at first
    :param wallets: how many there are
    """

    def __init__(self, path: str, wallets: int) -> None:
        with Path(path).open("r+b") as file:
            memory = memoryview(mmap.mmap(file.fileno(), self.size(wallets)))
        self.wallets = wallets
        cells = PROCESSES + _RECORD * wallets
        self._cells = memory[: 8 * cells].cast("q")
        self._applied = memory[8 * cells :]
        """A byte for each event; the first is nobody's."""

    @staticmethod
    def size(wallets: int) -> int:
        """Return how many bytes so many wallets take."""
        return 8 * (PROCESSES + _RECORD * wallets) + 1 + MOST_EVENTS

    def took(self, process: int) -> int:
        """Return how many events of its stream a process has begun."""
        return self._cells[process]

    def take(self, process: int, count: int) -> None:
        """Note how many events of its stream a process has begun."""
        self._cells[process] = count

    def applied(self, event: int) -> bool:
        """Tell whether an event was applied."""
        return bool(self._applied[event + 1])

    def count(self) -> int:
        """Return how many events were applied."""
        return bytes(self._applied[1:]).count(1)

    def all_applied(self) -> Iterator[int]:
        """Yield all events that were applied."""
        applied = bytes(self._applied[1:])
        event = applied.find(1)
        while event >= 0:
            yield event
            event = applied.find(1, event + 1)

    def balance(self, wallet: int) -> int:
        """Return a balance, and see to it that the event which made it is known as applied."""
        half = self._half(wallet)
        self._applied[self._cells[half + 2]] = 1
        return self._cells[half + 1]

    def write(self, wallet: int, fence: int, cents: int, event: int) -> bool:
        """Write a balance that an event made; tell whether the fencing token is good for it."""
        cells = self._cells
        half = self._half(wallet)
        if fence < cells[half]:
            return False
        first = PROCESSES + _RECORD * wallet
        which = 1 - cells[first]
        other = first + 1 + 3 * which
        cells[other], cells[other + 1], cells[other + 2] = fence, cents, event + 1
        cells[first] = which  # from here on it counts
        self._applied[event + 1] = 1
        return True

    def _half(self, wallet: int) -> int:
        first = PROCESSES + _RECORD * wallet
        return first + 1 + 3 * self._cells[first]
