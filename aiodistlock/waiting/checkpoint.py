"""Lets the event loop run on where tasks use leases again and again without an await.

Rules
-----
1. All such tasks together run for ``SPAN`` between two turns of the loop: in the next one it
   reads what arrived, a recall, say.
2. A task that comes to its checkpoint waits for the next turn, and then has its share of the
   span: so none of them is left out.
"""

from __future__ import annotations

import asyncio

from aiodistlock.core.clock import Clock

SPAN = 0.0005
"""Seconds between two turns of the loop.  A turn takes 6 µs of CPU, 1 % of it; and for so long a
recall is not read."""


class Checkpoint:
    """The checkpoint of all tasks of one event loop that use leases of a client again."""

    __slots__ = ("_clock", "_loop", "_share", "_waiting", "due_at")

    def __init__(self, clock: Clock, loop: asyncio.AbstractEventLoop) -> None:
        self._clock = clock
        self._loop = loop
        self._waiting = 0
        """How many tasks wait for the next turn."""
        self._share = SPAN
        self.due_at = 0.0
        """From this local instant on a task comes through here before it uses a lease."""

    async def wait(self) -> None:
        """Wait for the next turn of the loop; cancelled here, nothing is held."""
        if not self._waiting:
            self._loop.call_soon(self._turned)
        self._waiting += 1
        await asyncio.sleep(0)
        self.due_at = self._clock() + self._share

    def _turned(self) -> None:
        """Divide the span among those who wait; called before the first of them runs."""
        self._share = SPAN / max(1, self._waiting)
        self._waiting = 0
