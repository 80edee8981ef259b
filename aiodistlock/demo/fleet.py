"""The worker processes, seen from the demo.

Whatever happens to the demo, leaving the task group kills every worker, frozen ones
too, and waits for the kernel to confirm it.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Final

import anyio
from anyio.abc import TaskGroup

from aiodistlock.console.errors import CommandError

from . import messages
from .messages import Setup

_START_SECONDS: Final = 30.0
_FINISH_SECONDS: Final = 10.0
_CTRL_C_SECONDS: Final = 1.0
ENDS_THE_DEMO: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals at which the demo cleans up, as from a terminal."""
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

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if the process is still there.

        ``Process.send_signal`` looks first whether it has ended, and then takes its status
        away from asyncio's watcher, which complains on stderr.
        """
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)


OnReport = Callable[[WorkerProcess, messages.Report], None]


class Fleet:
    """Starts workers, listens to them, kills and freezes them.

    :param tasks: where listening to the workers runs; to leave it ends them all
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
        raise CommandError(f"the workers were not ready within {_START_SECONDS:g} s")

    def watch(self, wallet: str) -> None:
        """Have all workers, later ones too, report this wallet's next grant."""
        self._watched.append(wallet)
        for worker in self.running:
            worker.send(messages.Watch(wallet))

    async def kill(self, worker: WorkerProcess) -> None:
        """SIGKILL a worker, and wait until all it had sent has been read."""
        worker.state = State.KILLED
        worker.signal(signal.SIGKILL)
        await worker.gone.wait()

    def freeze(self, worker: WorkerProcess) -> None:
        """SIGSTOP a worker: its connections stay, it does nothing."""
        worker.state = State.FROZEN
        worker.signal(signal.SIGSTOP)

    def thaw(self, worker: WorkerProcess) -> None:
        """SIGCONT a frozen worker: it goes on where it was, and knows nothing."""
        worker.signal(signal.SIGCONT)
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
        raise CommandError(f"the workers did not end within {_FINISH_SECONDS:g} s")

    async def _spawn(self) -> WorkerProcess:
        # Taken before the first await: two workers may be replaced at once.
        number = next(self._numbers)
        errors = self._folder / f"{self._setup.act}-worker-{number}.stderr"
        # Cancelled halfway, asyncio would end the process as ``Process.kill`` does.
        with errors.open("wb") as stderr, anyio.CancelScope(shield=True):
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
        self._tasks.start_soon(self._attend, worker)
        return worker

    async def _attend(self, worker: WorkerProcess) -> None:
        """Listen to a worker until it has ended; whatever ends that, end the worker."""
        try:
            await self._listen(worker)
            status = await worker.process.wait()
        except BaseException:
            worker.state = State.KILLED
            worker.signal(signal.SIGKILL)
            with anyio.CancelScope(shield=True):
                await worker.process.wait()
            raise
        worker.gone.set()
        if worker.state not in (State.KILLED, State.FINISHED):
            if -status in ENDS_THE_DEMO:
                # Ctrl-C reaches one that has no session of its own yet; then it ends us, too.
                await anyio.sleep(_CTRL_C_SECONDS)
            raise CommandError(f"{worker} ended with status {status}{_last_line(worker)}")

    async def _listen(self, worker: WorkerProcess) -> None:
        assert worker.process.stdout is not None
        async for line in worker.process.stdout:
            report = messages.decode(line)
            match report:
                case messages.Ready():
                    self._welcome(worker)
                case messages.Failed():
                    raise CommandError(f"{worker} failed: {report.error}")
                case _:
                    assert isinstance(report, messages.Report)
                    self._on_report(worker, report)

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
