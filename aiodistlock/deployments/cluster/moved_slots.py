"""Slots that have changed hands, told about in one go."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from aiodistlock.protocol.owner import Owner


class MovedSlots:
    """
    Gathers what one turn of the loop finds moved: after a failover, thousands of slots.

    :param owner: has leases checked and waiters ask again
    """

    __slots__ = ("_owner", "_slots", "stopped")

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._slots: set[int] = set()
        self.stopped = False

    def note(self, slots: Iterable[int]) -> None:
        """Take note of slots; told about at the end of this turn."""
        told = bool(self._slots)
        self._slots.update(slots)
        if self._slots and not told:
            asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        slots, self._slots = self._slots, set()
        if not self.stopped:
            self._owner.on_moved(lambda keys: keys.slot in slots)
