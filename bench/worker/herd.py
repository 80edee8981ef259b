"""Many clients, each with a connection of its own as a process has, that want one name."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack

from bench.peers.base import Peer
from bench.worker import channel
from bench.worker.spec import Spec

Connect = Callable[[str, int, float], AbstractAsyncContextManager[Peer]]


class Herd:
    """Clients that take turns; notes who was inside from when to when."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self.inside: list[tuple[float, float]] = []
        """Instants of CLOCK_MONOTONIC, which all processes of a machine share: when the body
        began, and right before the release was called."""

    async def work(self, client: Peer) -> None:
        """Acquire and release until cancelled."""
        spec, clock = self._spec, time.monotonic
        lock = client.lock(spec.prefix)
        while True:
            async with lock:
                entered = clock()
                await asyncio.sleep(spec.body or 0.0)
                self.inside.append((entered, clock()))


async def run(spec: Spec, connect: Connect) -> None:
    """Connect all clients, have them wait, report ready, measure, report the figures."""
    herd = Herd(spec)
    async with AsyncExitStack() as stack:
        clients = []
        for number in range(spec.tasks):
            client = await stack.enter_async_context(connect(spec.url, 1, spec.ttl))
            async with client.lock(f"{spec.prefix}:{spec.number}:{number}"):
                clients.append(client)  # connected, its scripts loaded
        tasks = [asyncio.create_task(herd.work(client)) for client in clients]
        await asyncio.sleep(spec.warmup)
        channel.send({"ready": True})
        if await channel.receive_async() == "go":
            herd.inside.clear()
            began, cpu = time.perf_counter(), time.process_time()
            await asyncio.sleep(spec.seconds)
            seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
            for task in tasks:
                if task.done():
                    task.result()
            channel.send({"seconds": seconds, "client_cpu": cpu, "inside": herd.inside})
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
