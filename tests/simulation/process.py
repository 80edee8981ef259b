"""A process: an event loop, two clocks, a speed, and an end."""

from __future__ import annotations

import asyncio
import itertools
import math
import sys
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Any

from tests.simulation.process_loop import ProcessLoop
from tests.simulation.timeline import Timeline

if TYPE_CHECKING:
    from tests.simulation.network import ClientEnd, Network

ALSO = 1e-9
"""Seconds by which a turn comes behind its timer, so that no rounding has it come before."""

CONNECTIONS = tuple(
    f"aiodistlock.deployments.{each}"
    for each in ("durable.pipe", "cluster.connection", "cluster.primary_pipe")
)
"""Modules that send requests: behind the last look at a lease, too, what a leader proclaims."""


def _is_for_a_story() -> bool:
    """Tell whether the library looks at a clock to tell it: what is told must not change."""
    return bool(sys._getframe(2).f_globals["__name__"].startswith("aiodistlock.events."))


def _is_for_a_request() -> bool:
    """Tell whether a connection looks, to time what it sends: that says nothing of leases."""
    return sys._getframe(2).f_globals["__name__"] in CONNECTIONS


class Process:
    """
    Runs what a process runs, one turn of its loop after the other.

    :param rate: how fast its clocks run, 1.0: right
    :param turn: seconds from one turn to the next at the earliest
    :param slips: share of the looks at its clock behind which it stands still for a while, as
        one does that the machine gives no time: what was read is over then
    """

    current: Process | None = None
    """The one whose turn it is."""

    def __init__(
        self,
        number: int,
        timeline: Timeline,
        network: Network,
        rng: Random,
        *,
        rate: float,
        turn: float,
        after_turn: Callable[[Process], object],
        slips: float = 0.0,
        look_costs: float = 0.0,
    ) -> None:
        self.number = number
        self.label = f"p{number}"
        self.rng = rng
        """For what the library draws itself."""
        self.ends: dict[ClientEnd, None] = {}
        """Its open connections."""
        self.dead = False
        self.resumed_at = 0.0
        """True time at which it went on last."""
        self.began_at = timeline.now
        self._timeline = timeline
        self._network = network
        self._rate = rate
        self._offset = rng.uniform(10, 1e6)
        self._skew = rng.uniform(-3, 3)
        self.was_suspended = False
        self._sleeps = False
        self._slept = 0.0
        """Seconds for which its machine was suspended, in all."""
        self.turn = turn
        self._after_turn = after_turn
        self._slips, self._look_costs = slips, look_costs
        self._slip_rng = Random(f"{rng.random()}:slips") if slips else rng
        self.slipped = 0.0
        """Seconds, by its own clock, for which it has stood still in this turn."""
        self.last_reading = 0.0
        """What its clock showed when anything looked last."""
        self.last_look = 0.0
        """The same, but for looks that only time requests."""
        self.patience = 0.0
        """Its clients' ``unavailable_after``."""
        self.redis_py: Any = None
        """Its client of redis-py, for whoever locks with that."""
        self.numbers = itertools.count()
        """For tokens of such locks."""
        self._free_at = self._slipped_until = timeline.now
        self._planned_at = math.inf
        self._plan_number = 0
        self.loop = ProcessLoop(self.monotonic, self._connect)

    def clock(self) -> float:
        """Read CLOCK_BOOTTIME, which leases go by."""
        now = self.turned_at + self.slipped
        if Process.current is self and not _is_for_a_story():
            self.last_reading = now
            if not _is_for_a_request():
                self.last_look = now
            self.slipped += self._look_costs
            if self._slips and self._slip_rng.random() < self._slips:
                self.slipped += self._slip_rng.choice((0.001, 0.1, 0.4)) * self._slip_rng.random()
        return now

    @property
    def turned_at(self) -> float:
        """What it showed at the beginning of a turn."""
        return self._timeline.now * self._rate + self._offset

    def monotonic(self) -> float:
        """Read CLOCK_MONOTONIC, which stands still while the machine is suspended."""
        return (self._timeline.now - self._slept) * self._rate + self._offset + self.slipped

    def wall(self) -> float:
        """Read the wall clock, seconds since the world began."""
        return self._timeline.now * self._rate + self._skew

    __call__ = clock

    def call_later(
        self, delay: float, callback: Callable[..., object], /, *args: Any
    ) -> asyncio.TimerHandle:
        """Plan a call, as the loop does."""
        return self.loop.call_later(delay, callback, *args)

    async def _connect(self, protocol_factory: Any, host: str, port: int) -> tuple[Any, Any]:
        protocol = protocol_factory()
        end = await self._network.connect(self, host, port)
        self.ends[end] = None
        end.set_protocol(protocol)
        protocol.connection_made(end)
        return end, protocol

    def start(self, coroutine: Any, name: str) -> asyncio.Task[Any]:
        """Start a task in it."""
        task: asyncio.Task[Any] = self.loop.create_task(coroutine, name=name)
        self.poke()
        return task

    def poke(self) -> None:
        """See to it that its next turn comes when there is something to do."""
        if self.dead:
            return
        loop, now = self.loop, self._timeline.now
        if loop.is_ready:
            at = now
        else:
            when = loop.next_timer()
            if when is None:
                return
            at = now + max(0.0, (when - self.monotonic()) / self._rate) + ALSO
        at = max(at, self._free_at)
        if at < self._planned_at:
            self._plan_number += 1
            self._planned_at = at
            self._timeline.at(at, self._run_turn, self._plan_number)

    def _run_turn(self, plan: int) -> None:
        if plan != self._plan_number or self.dead:
            return
        self._planned_at = math.inf
        if self._timeline.now < self._free_at:
            self.poke()
            return
        self._sleeps = False
        Process.current = self
        try:
            self.loop.run_turn()
        finally:
            Process.current = None
        self._free_at = max(self._free_at, self._timeline.now + self.turn)
        if self.slipped:
            self.stand_still(self.slipped / self._rate)
            self._slipped_until, self.slipped = self._free_at, 0.0
        self.poke()
        self._after_turn(self)

    def stand_still(self, seconds: float) -> None:
        """Run nothing for a while; what arrives waits."""
        self._free_at = max(self._free_at, self._timeline.now + seconds)
        self.resumed_at = max(self.resumed_at, self._free_at)

    def suspend(self, seconds: float) -> None:
        """Have its machine sleep: the loop's clock stands still, the other goes on."""
        seconds = max(0.0, self._timeline.now + seconds - max(self._free_at, self._timeline.now))
        self.stand_still(self._free_at - self._timeline.now + seconds)
        self.was_suspended = self._sleeps = True
        self._slept += seconds

    def go_on(self) -> None:
        """Stand still no longer."""
        now = max(self._timeline.now, self._slipped_until)
        if self._free_at > now:
            if self._sleeps:
                self._slept -= self._free_at - now
            self._free_at = self.resumed_at = now
            self._planned_at = math.inf
            self.poke()

    def kill(self, *, silently: bool) -> None:
        """
        End it where it stands.

        :param silently: with its machine, so that nobody closes its connections
        """
        self.dead = True
        for end in list(self.ends):
            end.die(silently=silently)

    def bury(self) -> None:
        """Have nothing of it run any more, and all of it be collected."""
        self.dead = True
        self.loop._closed = True  # type: ignore[attr-defined]  # asyncio's own
        self.loop._ready.clear()  # type: ignore[attr-defined]  # as above
        self.loop._scheduled.clear()  # type: ignore[attr-defined]  # as above
        # As a garbage collector would; it cannot, while their engines are known to finalizers.
        Process.current = self
        for task in asyncio.all_tasks(self.loop):
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # as above
            with suppress(RuntimeError):  # anyio's, in a scope
                task.get_coro().close()
        Process.current = None
