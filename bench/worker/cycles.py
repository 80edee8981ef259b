"""Tasks that acquire and release as fast as they can."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

from bench.peers.base import Peer
from bench.worker import channel
from bench.worker.guard import guards
from bench.worker.record import Recorder
from bench.worker.spec import Spec
from bench.worker.warmup import pauses

YIELD_EVERY = 64
"""Cycles after which a task lets others run: a free mutex never does."""


class Load:
    """
    Tasks that cycle through a lock until they are told to stop.

    :param spec: how many, on which names, doing what inside
    :param peer: whose locks
    """

    def __init__(self, spec: Spec, peer: Peer) -> None:
        self._spec = spec
        self._peer = peer
        self.recorder = Recorder(spec.tasks)
        self._guards = guards(spec.tasks, hot=spec.hot, page=spec.page)
        self._stopping = False
        self.overlaps = 0
        """How often two were inside at once."""

    async def work(self, task: int) -> None:
        """Acquire and release; the wait is from asking until the body runs."""
        spec, cells = self._spec, self._guards[task].cells
        pending, note = self.recorder.pending, self.recorder.waits[task].append
        who = 1 + spec.number * spec.tasks + task
        lock = self._peer.lock(spec.name(task))
        clock, body, cycles = time.perf_counter, spec.body, 0
        uniform = random.uniform
        while not self._stopping:
            cycles += 1
            if spec.pause:
                await asyncio.sleep(uniform(0.0, 2 * spec.pause))
            elif not cycles % YIELD_EVERY:
                await asyncio.sleep(0)
            pending[task] = began = clock()
            async with lock:
                note(clock() - began)
                pending[task] = 0.0
                # Guard.enter() and leave(), written out: a call each would be a tenth of
                # what the fastest lock takes, and little beside the slowest.
                overlaps = int(cells[0] != 0)
                cells[0], seen = who, cells[1]
                if body is not None:
                    await asyncio.sleep(body)
                overlaps += cells[0] != who or cells[1] != seen
                cells[1] = seen + 1
                cells[0] = 0
                if overlaps:
                    self.overlaps += overlaps

    async def measure(self) -> None:
        """Warm up, report ready, measure, report the figures, end the tasks."""
        tasks = [asyncio.create_task(self.work(task)) for task in range(self._spec.tasks)]
        try:
            await self._warm_up(tasks)
            channel.send({"ready": True})
            if await channel.receive_async() != "go":
                return
            self.recorder.begin()
            await asyncio.sleep(self._spec.seconds)
            figures = self._figures(tasks)
            channel.send(figures)
        finally:
            self._stopping = True
            await asyncio.wait(tasks, timeout=0.5)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _warm_up(self, tasks: list[asyncio.Task[None]]) -> None:
        for pause in pauses(self._spec, self.recorder.everybody_had_a_turn):
            _raise_first(tasks)
            await asyncio.sleep(pause)

    def _figures(self, tasks: list[asyncio.Task[None]]) -> dict[str, Any]:
        _raise_first(tasks)
        return {**self.recorder.end(), "overlaps": self.overlaps}


def _raise_first(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        if task.done():
            task.result()


async def run(spec: Spec, peer: Peer) -> None:
    """Measure one worker's cycles."""
    await Load(spec, peer).measure()
