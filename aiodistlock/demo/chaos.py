"""Killing and freezing workers inside the critical section.

A trap makes a worker stop between read and write and say so; only then does it
get struck. So it is certain, not likely, that the strike hits inside.

A frozen worker is thawed when its lease is long gone: another worker was granted
the lock and has written. It goes on with the next thing it was about to do, which
is to write. Its client will cancel the critical section too, but a cancellation
does not stop a thread in the middle of a blocking call. What refuses the stale
write is the ledger, which has seen a higher fencing token.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import anyio

from aiodistlock.console.numbers import counted

from . import messages
from .deliveries import Deliveries
from .fleet import Fleet, WorkerProcess


class Kind(StrEnum):
    """What is done to a worker inside the critical section."""

    KILL = "kill"
    FREEZE = "freeze"


@dataclass(eq=False)
class Strike:
    """One strike, and what became of it."""

    kind: Kind
    victim: WorkerProcess
    wallet: str
    fence: int | None
    struck_at: float
    next_grant: float | None = None
    """Seconds from the strike until another worker was granted the wallet's lock."""
    granted: anyio.Event = field(default_factory=anyio.Event)
    written: anyio.Event = field(default_factory=anyio.Event)
    refused: anyio.Event = field(default_factory=anyio.Event)

    def is_succeeded_by(self, wallet: str, fence: int | None) -> bool:
        """Whether a lease with this fencing token came after the victim's."""
        if self.fence is None or fence is None:
            return False
        return wallet == self.wallet and fence > self.fence


class Chaos:
    """Strikes a worker for every trap that springs.

    :param plan: what is done at the first trap, the second, and so on
    :param replace: start a new worker for one that is gone
    :param tell: takes the lines of the story
    """

    def __init__(
        self,
        plan: Sequence[Kind],
        fleet: Fleet,
        deliveries: Deliveries,
        tell: Callable[[str], None],
    ) -> None:
        self._plan = list(plan)
        self._fleet = fleet
        self._deliveries = deliveries
        self._tell = tell
        self._under_way = 0
        self.strikes: list[Strike] = []
        self.refused = 0

    @property
    def finished(self) -> bool:
        """Whether all that was planned has happened, with all its consequences."""
        return len(self.strikes) == len(self._plan) and not self._under_way

    def observe(self, worker: WorkerProcess, report: messages.Report) -> None:
        """Take in what concerns a strike."""
        for strike in self.strikes:
            match report:
                case messages.Granted(wallet, fence, at):
                    if strike.is_succeeded_by(wallet, fence) and not strike.next_grant:
                        strike.next_grant = at - strike.struck_at
                        strike.granted.set()
                case messages.Wrote(wallet, fence):
                    if strike.is_succeeded_by(wallet, fence):
                        strike.written.set()
                case messages.Refused(_, wallet, fence):
                    if worker is strike.victim and fence == strike.fence:
                        strike.refused.set()
        if isinstance(report, messages.Refused):
            self.refused += 1

    async def strike(self, victim: WorkerProcess, inside: messages.Inside) -> None:
        """Do what is next in the plan to a worker that is inside."""
        self._deliveries.disarm(victim.number, inside.delivery)
        kind = self._plan[len(self.strikes)]
        strike = Strike(kind, victim, inside.wallet, inside.fence, time.monotonic())
        self.strikes.append(strike)
        self._under_way += 1
        self._fleet.watch(inside.wallet)
        await (self._kill(strike) if kind is Kind.KILL else self._freeze(strike))
        self._deliveries.allow_trap()
        self._under_way -= 1

    async def _kill(self, strike: Strike) -> None:
        victim = strike.victim
        strike.struck_at = time.monotonic()
        await self._fleet.kill(victim)
        again = self._deliveries.redeliver(victim.number, gone=True)
        self._tell(
            f"{victim} (pid {victim.pid}) is killed (SIGKILL) inside the critical section of "
            f"{strike.wallet}; {counted(again, 'open delivery')} go to others"
        )
        await self._fleet.start(1)
        if strike.fence is not None:
            await self._next_grant(strike)

    async def _freeze(self, strike: Strike) -> None:
        victim = strike.victim
        strike.struck_at = time.monotonic()
        self._fleet.freeze(victim)
        again = self._deliveries.redeliver(victim.number, gone=False)
        self._tell(
            f"{victim} (pid {victim.pid}) is frozen (SIGSTOP) inside the critical section of "
            f"{strike.wallet}, about to write; {counted(again, 'open delivery')} "
            "go to others"
        )
        if not self._fleet.running:
            await self._fleet.start(1)
        await self._next_grant(strike)
        await strike.written.wait()
        # In this order, so that the write is the first thing that it does.
        victim.send(messages.GoOn())
        self._fleet.thaw(victim)
        self._tell(f"{victim} wakes up, still believes it holds the lock, and writes …")
        await strike.refused.wait()
        self._tell(
            f"… and is refused: its fencing token {strike.fence} is lower than the "
            f"ledger's, so the money is not booked twice"
        )

    async def _next_grant(self, strike: Strike) -> None:
        await strike.granted.wait()
        self._tell(
            f"{strike.wallet} is granted to another worker "
            f"{strike.next_grant:.2f} s after the {strike.kind}"
        )
