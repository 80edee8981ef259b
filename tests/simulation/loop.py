"""An event loop whose time is simulated: it jumps to the next timer when all is quiet."""

import asyncio
from typing import Any


class SimulatedLoop(asyncio.SelectorEventLoop):
    """Runs what asyncio runs, as fast as it can, at instants of its own."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 1_000.0
        self.failures: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.failures.append(context))

    def time(self) -> float:
        """Return the simulated instant."""
        return self._now

    def _run_once(self) -> None:
        ready, scheduled = self._ready, self._scheduled  # type: ignore[attr-defined]  # asyncio's own
        if not ready and scheduled:
            # Time never stands still, or what rounds to nothing would be waited for forever.
            self._now = max(self._now + 1e-7, scheduled[0].when())
        super()._run_once()  # type: ignore[misc]  # as above
