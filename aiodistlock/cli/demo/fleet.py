"""The worker processes, seen from the demo.

Whatever happens to the demo, leaving the ``async with`` kills every worker, frozen
ones too, and waits for the kernel to confirm it.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import anyio
from anyio.abc import TaskGroup

from . import messages
from .errors import DemoError
from .messages import Setup

_START_SECONDS: Final = 30.0
_FINISH_SECONDS: Final = 10.0
_LONGEST_LINE: Final = 2**22


class State(StrEnum):
    """What a worker process is doing."""

    STARTING = "starting"
    RUNNING = "running"
    FROZEN = "frozen"
    KILLED = "killed"
    FINISHED = "finished"


@dataclass(eq=False)
class WorkerProcess:
    """One worker process. Numbers are not used twice within an act."""

    number: int
    process: asyncio.subprocess.Process
    errors: Path
    ready: anyio.Event
    gone: anyio.Event
    state: State = State.STARTING
    acked: int = 0

    def __str__(self) -> str:
        return f"worker {self.number}"

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Whether the process exists."""
        return not self.gone.is_set()

    def send(self, order: messages.Order) -> None:
        """Send an order; a frozen worker finds it when it goes on."""
        assert self.process.stdin is not None
        if self.alive:
            self.process.stdin.write(messages.encode(order))


OnReport = Callable[[WorkerProcess, messages.Report], None]


class Fleet:
    """Starts workers, listens to them, kills and freezes them.

    :param tasks: where listening to the workers runs
    :param setup: what every worker is told; the number is filled in
    :param folder: where the workers' stderr goes
    :param on_report: called with each report but ``Ready`` and ``Failed``
    """

    def __init__(self, tasks: TaskGroup, setup: Setup, folder: Path, on_report: OnReport) -> None:
        self._tasks = tasks
        self._setup = setup
        self._folder = folder
        self._on_report = on_report
        self._numbers = itertools.count(1)
        self._watched: list[str] = []
        self.workers: list[WorkerProcess] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for worker in self.workers:
            if worker.alive:
                worker.state = State.KILLED
                worker.process.kill()
        with anyio.CancelScope(shield=True):
            for worker in self.workers:
                await worker.process.wait()

    @property
    def running(self) -> list[WorkerProcess]:
        """The workers that take deliveries."""
        return [worker for worker in self.workers if worker.state is State.RUNNING]

    async def start(self, count: int) -> None:
        """Start workers at the same time, and wait until all are ready."""
        started = [await self._spawn() for _ in range(count)]
        with anyio.move_on_after(_START_SECONDS):
            for worker in started:
                await worker.ready.wait()
            return
        raise DemoError(f"the workers were not ready within {_START_SECONDS:g} s")

    def watch(self, wallet: str) -> None:
        """Have all workers, later ones too, report this wallet's next grant."""
        self._watched.append(wallet)
        for worker in self.running:
            worker.send(messages.Watch(wallet))

    async def kill(self, worker: WorkerProcess) -> None:
        """SIGKILL a worker, and wait until all it had sent has been read."""
        worker.state = State.KILLED
        worker.process.kill()
        await worker.gone.wait()

    def freeze(self, worker: WorkerProcess) -> None:
        """SIGSTOP a worker: its connections stay, it does nothing."""
        worker.state = State.FROZEN
        worker.process.send_signal(signal.SIGSTOP)

    def thaw(self, worker: WorkerProcess) -> None:
        """SIGCONT a frozen worker: it goes on where it was, and knows nothing."""
        worker.process.send_signal(signal.SIGCONT)
        worker.state = State.RUNNING

    async def finish(self) -> None:
        """Let all running workers close what they have open, and end."""
        leaving = self.running
        for worker in leaving:
            worker.state = State.FINISHED
            worker.send(messages.Finish())
        with anyio.move_on_after(_FINISH_SECONDS):
            for worker in leaving:
                await worker.gone.wait()
            return
        raise DemoError(f"the workers did not end within {_FINISH_SECONDS:g} s")

    async def _spawn(self) -> WorkerProcess:
        # Taken before the first await: two workers may be replaced at once.
        number = next(self._numbers)
        errors = self._folder / f"{self._setup.act}-worker-{number}.stderr"
        with errors.open("wb") as stderr:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", f"{__package__}.worker"),
                str(os.getpid()),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
                limit=_LONGEST_LINE,
                env=_environment(),
                # Ctrl-C in the terminal is for the demo, which ends its workers.
                start_new_session=True,
            )
        worker = WorkerProcess(number, process, errors, anyio.Event(), anyio.Event())
        self.workers.append(worker)
        worker.send(replace(self._setup, number=number))
        self._tasks.start_soon(self._listen, worker)
        return worker

    async def _listen(self, worker: WorkerProcess) -> None:
        assert worker.process.stdout is not None
        async for line in worker.process.stdout:
            report = messages.decode(line)
            match report:
                case messages.Ready():
                    self._welcome(worker)
                case messages.Failed():
                    raise DemoError(f"{worker} failed: {report.error}")
                case _:
                    assert isinstance(report, messages.Report)
                    self._on_report(worker, report)
        status = await worker.process.wait()
        worker.gone.set()
        if worker.state not in (State.KILLED, State.FINISHED):
            raise DemoError(f"{worker} ended with status {status}{_last_line(worker)}")

    def _welcome(self, worker: WorkerProcess) -> None:
        worker.state = State.RUNNING
        for wallet in self._watched:
            worker.send(messages.Watch(wallet))
        worker.ready.set()


def _environment() -> dict[str, str]:
    """Have a worker find modules where this process found them, and nowhere else.

    ``python -m`` would look in the current directory first; -P keeps it from that.
    """
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
    return {**os.environ, "PYTHONPATH": path}


def _last_line(worker: WorkerProcess) -> str:
    lines = worker.errors.read_text(errors="replace").split("\n")
    told = [line for line in lines if line.strip()]
    return f": {told[-1].strip()}" if told else ""
