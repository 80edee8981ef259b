"""What happens in a world, in the order of its one true time."""

import heapq
from collections.abc import Callable
from typing import Any


class Timeline:
    """
    Events by their instants; what comes at the same one comes in the order of planning.

    :ivar now: the true time, seconds; no process and no server can read it
    :ivar count: how many events there were
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.count = 0
        self._planned = 0
        self._events: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []

    def at(self, when: float, happen: Callable[..., object], *args: Any) -> None:
        """Have something happen at an instant; now, if that is over."""
        self._planned += 1
        heapq.heappush(self._events, (max(when, self.now), self._planned, happen, args))

    def after(self, seconds: float, happen: Callable[..., object], *args: Any) -> None:
        """Have something happen after some seconds."""
        self.at(self.now + seconds, happen, *args)

    def step(self, until: float) -> bool:
        """Let the next event happen; ``False`` if there is none before ``until``."""
        if not self._events or self._events[0][0] > until:
            self.now = max(self.now, until)
            return False
        when, _, happen, args = heapq.heappop(self._events)
        self.now = when
        self.count += 1
        happen(*args)
        return True
