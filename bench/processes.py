"""The parent's end of a worker."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.peers.catalog import Side
from bench.worker.guard import PAGE_BYTES
from bench.worker.spec import Spec

ROOT = Path(__file__).parents[1]


class WorkerFailed(Exception):
    """A worker reported an error, ended, or took too long."""


class Worker:
    """
    One worker process, as a context manager: leaving it kills the process.

    :param side: whose lock, on which loop
    :param spec: what to do; its peer and loop are the side's
    :param patience: seconds to wait for an answer beyond what the spec takes
    """

    def __init__(self, side: Side, spec: Spec, patience: float = 60.0) -> None:
        self._spec = replace(spec, peer=side.info.module, loop=side.loop)
        self._patience = spec.seconds + 2 * spec.warmup + patience
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the process
        with _on(spec.cpu):
            self._process = subprocess.Popen(
                side.info.command(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                bufsize=1,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                # Ctrl-C is for the parent, which ends its workers and writes the results.
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        self.tell(self._spec.dump())
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()
        self._errors.close()

    def kill(self) -> None:
        """End the process as a crash would."""
        self._process.kill()
        self._process.wait()

    def tell(self, word: str) -> None:
        """
        Send one line.

        :raises WorkerFailed: if the worker has ended
        """
        assert self._process.stdin is not None, "made with a pipe"
        try:
            self._process.stdin.write(word + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise WorkerFailed(self._last_words()) from None

    def hear(self) -> dict[str, Any]:
        """
        Wait for the next message.

        :raises WorkerFailed: if it is an error, or does not come
        """
        assert self._process.stdout is not None, "made with a pipe"
        timer = threading.Timer(self._patience, self._process.kill)
        timer.start()
        try:
            line = self._process.stdout.readline()
        finally:
            timer.cancel()
        if not line:
            raise WorkerFailed(self._last_words())
        message: dict[str, Any] = json.loads(line)
        if "error" in message:
            raise WorkerFailed(message["error"])
        return message

    def finish(self, within: float = 2.0) -> None:
        """Let the worker clean up and end by itself; leaving the block kills it."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(within)

    def _last_words(self) -> str:
        self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").splitlines()
        # Of a group the traceback ends in a frame, below what matters.
        told = [line.strip("+-| ") for line in lines if line.strip("+-| ")]
        return f"the worker ended with code {self._process.returncode}: {' '.join(told[-1:])}"


@contextmanager
def _on(core: int | None) -> Iterator[None]:
    """
    Start processes on a core, for them and all their threads to stay on.

    They inherit it from this thread.  Each cannot do so by itself: Node has no call for it,
    and whoever sets it from outside comes after the first threads.
    """
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def workers(side: Side, specs: Sequence[Spec]) -> Iterator[list[Worker]]:
    """Start workers that share one page for the overlap check, and wait until all run."""
    with ExitStack() as stack:
        if len(specs) > 1:
            page = stack.enter_context(tempfile.NamedTemporaryFile(prefix="aiodistlock-bench-"))
            page.write(bytes(PAGE_BYTES))
            page.flush()
            specs = [
                replace(spec, page=page.name, number=number) for number, spec in enumerate(specs)
            ]
        started = [stack.enter_context(Worker(side, spec)) for spec in specs]
        for worker in started:
            worker.hear()
        yield started
