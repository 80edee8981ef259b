"""The client processes of a soak, and what befalls them."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self

from anyio import move_on_after

from aiodistlock.core.clock import local_clock
from tests.soak.client_main import TTLS
from tests.soak.history import History

ROOT = Path(__file__).parents[2]

ENDS_WITHIN = 60.0
"""Seconds within which a process that is told to end has what it waits for, all being well."""


class ClientProcess:
    """One of them."""

    def __init__(self, label: str, process: asyncio.subprocess.Process, history: History) -> None:
        self.label = label
        self._process = process
        self._history = history
        self._said: deque[str] = deque(maxlen=40)
        """What is no word of ours: a traceback."""
        self.ready = asyncio.Event()
        """Set when it would hear SIGTERM, or has ended."""
        self._listening = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            text = line.decode()
            if text == "ready\n":
                self.ready.set()
            elif not self._history.take(self.label, text):
                self._said.append(text)
        self.ready.set()

    async def kill(self) -> None:
        """End it as a crash would."""
        killed_at = local_clock()
        self._signal(signal.SIGKILL)
        await self._listening
        await self._process.wait()
        self._history.killed(self.label, killed_at)

    async def stop(self, seconds: float) -> None:
        """Stop it for a while."""
        self._signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._signal(signal.SIGCONT)

    async def end(self) -> None:
        """Have it close its client, and see that it does."""
        self._signal(signal.SIGTERM)
        with move_on_after(ENDS_WITHIN):
            await self._listening
            if await self._process.wait() != 0:
                self._wrong("".join(["ended in an error:\n", *self._said]))
            return
        await self.kill()
        self._wrong(f"had not ended {ENDS_WITHIN} s after it was told to, all being well")

    def _signal(self, number: signal.Signals) -> None:
        # One that has ended by itself is told of when it is to end.
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    def _wrong(self, what: str) -> None:
        self._history.wrong.append((local_clock(), f"{self.label} {what}"))


class Clients:
    """
    All of them, each replaced when it ends.

    :param urls: where they connect
    """

    def __init__(self, urls: Sequence[str], namespace: str, count: int, history: History) -> None:
        self._urls = urls
        self._namespace = namespace
        self._count = count
        self._history = history
        self._numbers = itertools.count(1)
        self._running: list[ClientProcess] = []
        self._rng = Random()

    async def __aenter__(self) -> Self:
        for _ in range(self._count):
            await self._start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for each in self._running:
            await each.kill()

    async def _start(self) -> None:
        label = f"client{next(self._numbers)}"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.soak.client_main", str(os.getpid())),
            *(label, self._namespace, *self._urls),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=ROOT,
        )
        client = ClientProcess(label, process, self._history)
        self._running.append(client)
        await client.ready.wait()

    async def strike(self) -> None:
        """Have something befall one of them."""
        rng, history = self._rng, self._history
        client = rng.choice(self._running)
        kind = rng.choice(("kill", "stop", "stop", "end"))
        history.strikes[f"client: {kind}"] += 1
        if kind == "stop":
            seconds = rng.choice((0.1, 0.5, 1.5)) * max(TTLS)
            history.tell(local_clock(), f"{client.label} is stopped for {seconds:.2f} s")
            await client.stop(seconds)
            return
        history.tell(local_clock(), f"{client.label}: {kind}")
        self._running.remove(client)
        await (client.kill() if kind == "kill" else client.end())
        await self._start()

    async def end(self) -> None:
        """Have all of them end, all being well."""
        ending, self._running = self._running, []
        await asyncio.gather(*(each.end() for each in ending))
