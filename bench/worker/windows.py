"""Tasks that have a job done, one window after the other, or find it done again and again."""

from __future__ import annotations

import asyncio
import time
from typing import cast

from bench.peers.base import Peer
from bench.peers.siblings import Window
from bench.worker.cycles import YIELD_EVERY, Load
from bench.worker.spec import Spec


class WindowLoad(Load):
    """
    Tasks that do windows.

    With ``hot`` all ask for the first one, which is done once: what is measured is to find it
    done.  Else each has a job of its own, and does a new window each time.
    """

    async def work(self, task: int) -> None:
        """Do windows; the wait is from asking until the body runs, or until it need not."""
        spec, guard = self._spec, self._guards[task]
        recorder, who = self.recorder, 1 + self._spec.number * self._spec.tasks + task
        job = cast("Window", self._peer.lock(spec.name(task)))
        clock, window, cycles = time.perf_counter, 1, 0

        async def body() -> None:
            note()
            guard.enter(who)
            await asyncio.sleep(0)
            guard.leave(who)
            self.overlaps += guard.overlaps
            guard.overlaps = 0

        def note() -> None:
            recorder.waits[task].append(clock() - recorder.pending[task])
            recorder.pending[task] = 0.0

        while not self._stopping:
            cycles += 1
            if not cycles % YIELD_EVERY:
                await asyncio.sleep(0)
            recorder.pending[task] = clock()
            if not await job.run(window, body):
                note()
            if not spec.hot:
                window += 1


async def run(spec: Spec, peer: Peer) -> None:
    """Measure one worker's windows."""
    await WindowLoad(spec, peer).measure()
