"""One act under way: deliveries flow to the workers, traps spring, figures add up."""

from __future__ import annotations

import time
from array import array
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio
from anyio.abc import TaskGroup

from . import messages
from .chaos import Chaos, Kind
from .deliveries import Deliveries, hot_traps
from .events import Event
from .fleet import Fleet, WorkerProcess
from .ledger import Audit, Ledger
from .messages import Act, Setup
from .report import Progress, Reporter

TASKS_PER_WORKER: Final = 8

# Enough that a worker never waits for the demo, few enough that a killed one has
# little to be delivered again.
_ROOM: Final = 3 * TASKS_PER_WORKER

_TICK: Final = 0.05


@dataclass(frozen=True)
class Stage:
    """What all acts have in common."""

    events: Sequence[Event]
    workers: int
    redis_url: str
    namespace: str
    ttl: float
    folder: Path
    reporter: Reporter


class Performance:
    """One act under way; made by :func:`perform`."""

    def __init__(
        self,
        stage: Stage,
        setup: Setup,
        events: Sequence[Event],
        plan: Sequence[Kind],
        tasks: TaskGroup,
    ) -> None:
        self._stage = stage
        self._setup = setup
        self._tasks = tasks
        self._began_at = time.monotonic()
        self.progressed_at = self._began_at
        self.seconds = 0.0
        self.waits = array("q")
        self.events = events
        self.deliveries = Deliveries(events, hot_traps(events, len(plan)))
        self.fleet = Fleet(tasks, setup, stage.folder, self._take_report)
        self.chaos = Chaos(plan, self.fleet, self.deliveries, stage.reporter.tell)

    @property
    def namespace(self) -> str:
        """The namespace of the act's locks."""
        return self._setup.namespace

    @property
    def finished(self) -> bool:
        """Whether every delivery is done and all that was planned has happened."""
        return self.deliveries.finished and self.chaos.finished

    async def start(self) -> None:
        """Start the workers; the clock of the figures starts when they are ready."""
        await self.fleet.start(self._stage.workers)
        self.progressed_at = self._began_at = time.monotonic()

    async def tick(self) -> None:
        """Let a moment pass: keep the workers supplied and the reporter informed."""
        for worker in self.fleet.running:
            self._supply(worker)
        await anyio.sleep(_TICK)
        self.seconds = time.monotonic() - self._began_at
        self._stage.reporter.progress(self._progress())

    def audit(self) -> Audit:
        """Compare the act's ledger with the true balances."""
        with closing(Ledger(Path(self._setup.ledger))) as ledger:
            return ledger.audit(self.events)

    def _supply(self, worker: WorkerProcess) -> None:
        for delivery in self.deliveries.take(worker.number, _ROOM):
            worker.send(delivery)

    def _take_report(self, worker: WorkerProcess, report: messages.Report) -> None:
        match report:
            case messages.Acked(deliveries, waits):
                self.progressed_at = time.monotonic()
                worker.acked += len(deliveries)
                self.waits.extend(waits)
                for delivery in deliveries:
                    self.deliveries.ack(worker.number, delivery)
                if worker in self.fleet.running:
                    self._supply(worker)
            case messages.Inside():
                self._tasks.start_soon(self.chaos.strike, worker, report)
            case _:
                self.chaos.observe(worker, report)

    def _progress(self) -> Progress:
        workers = [(worker.number, worker.state, worker.acked) for worker in self.fleet.workers]
        return Progress(
            done=self.deliveries.done,
            total=self.deliveries.total,
            seconds=self.seconds,
            workers=workers,
        )


@asynccontextmanager
async def perform(
    stage: Stage, act: Act, events: Sequence[Event], plan: Sequence[Kind] = ()
) -> AsyncIterator[Performance]:
    """Start an act on a new ledger. Leaving it kills what still runs.

    :param plan: what is done to the workers that get trapped, in this order
    """
    setup = Setup(
        number=0,
        act=act,
        ledger=str(stage.folder / f"{act}.sqlite3"),
        redis_url=stage.redis_url,
        namespace=f"{stage.namespace}{act}:",
        ttl=stage.ttl,
        tasks=TASKS_PER_WORKER,
    )
    Ledger.create(Path(setup.ledger), events).close()
    async with anyio.create_task_group() as tasks:
        performance = Performance(stage, setup, events, plan, tasks)
        await performance.start()
        yield performance
        tasks.cancel_scope.cancel()
