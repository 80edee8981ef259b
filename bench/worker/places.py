"""Tasks that hold together: as many as there are permits, or readers, or one writer."""

from __future__ import annotations

import asyncio
import time
from typing import cast

from bench.peers.base import Peer
from bench.peers.siblings import Places
from bench.worker.cycles import YIELD_EVERY, Load
from bench.worker.spec import Spec


class PlacesLoad(Load):
    """Tasks that cycle through what several hold at a time."""

    def __init__(self, spec: Spec, peer: Peer) -> None:
        super().__init__(spec, peer)
        self._taken = 0

    async def work(self, task: int) -> None:
        """Enter and leave; who is inside when there is no room for it is an overlap."""
        spec, pending = self._spec, self.recorder.pending
        note = self.recorder.waits[task].append
        places = cast("Places", self._peer.lock(spec.name(task)))
        clock, body, cycles = time.perf_counter, spec.body, 0
        while not self._stopping:
            cycles += 1
            if not cycles % YIELD_EVERY:
                await asyncio.sleep(0)
            block, takes = places.block()
            pending[task] = began = clock()
            async with block:
                note(clock() - began)
                pending[task] = 0.0
                self._taken += takes
                self.overlaps += self._taken > places.most
                if body is not None:
                    await asyncio.sleep(body)
                self._taken -= takes


async def run(spec: Spec, peer: Peer) -> None:
    """Measure one worker's cycles."""
    await PlacesLoad(spec, peer).measure()
