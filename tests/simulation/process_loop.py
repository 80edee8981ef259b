"""asyncio's own event loop, run turn by turn at instants of a simulated process."""

import asyncio
import threading
from asyncio import events
from collections.abc import Callable
from typing import Any

Connect = Callable[[Callable[[], Any], str, int], Any]


class _NoSelector:
    """Stands where sockets would be waited for: what arrives is put among the callbacks."""

    def select(self, _timeout: float | None) -> list[Any]:
        """Wait for nothing."""
        return []


class ProcessLoop(asyncio.BaseEventLoop):
    """
    The loop of one process.

    :param monotonic: the clock of its timers
    :param connect: opens connections
    """

    def __init__(self, monotonic: Callable[[], float], connect: Connect) -> None:
        super().__init__()
        self.time = monotonic  # type: ignore[method-assign]  # one call less, for each timer
        self.failures: list[dict[str, Any]] = []
        self._connect = connect
        self._selector = _NoSelector()
        self._clock_resolution = 1e-9
        self.set_exception_handler(lambda _, context: self.failures.append(context))

    def run_turn(self) -> None:
        """Run what is ready, and the timers that are due."""
        self._thread_id: int | None = threading.get_ident()
        events._set_running_loop(self)
        try:
            self._run_once()  # type: ignore[attr-defined]  # asyncio's own
        finally:
            self._thread_id = None
            events._set_running_loop(None)

    @property
    def is_ready(self) -> bool:
        """Whether anything is to be run at once."""
        return bool(self._ready)  # type: ignore[attr-defined]  # as above

    def next_timer(self) -> float | None:
        """Return when the next timer is due, by the loop's own clock."""
        scheduled = self._scheduled  # type: ignore[attr-defined]  # as above
        return scheduled[0].when() if scheduled else None

    def timers(self) -> list[asyncio.TimerHandle]:
        """Return the timers that have not been called off."""
        scheduled = self._scheduled  # type: ignore[attr-defined]  # as above
        return [each for each in scheduled if not each.cancelled()]

    def _process_events(self, event_list: list[Any]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody sleeps: there is one thread."""

    async def create_connection(
        self, protocol_factory: Any, host: Any = None, port: Any = None, **_: Any
    ) -> Any:
        """Connect by the simulated network."""
        return await self._connect(protocol_factory, host, port)
