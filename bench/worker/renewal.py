"""Holds many leases, and measures what keeping them costs."""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
from array import array

from bench.peers.base import Keeper
from bench.worker import channel
from bench.worker.record import quantile
from bench.worker.spec import Spec

ACQUIRERS = 32
"""Tasks that acquire the leases, so that renewals are spread over time, as in a service."""

LAG_PAUSE = 0.005
"""Pause of the task that measures the event loop's lag, seconds."""


async def run(spec: Spec, peer: Keeper) -> None:
    """Acquire the leases, report ready, hold them, report the figures."""
    names = [f"{spec.prefix}:{task}" for task in range(spec.tasks)]
    # One before, so that connections and scripts are not counted as its bytes.
    await peer.keep(f"{spec.prefix}:first")
    gc.collect()
    tracemalloc.start()
    await _acquire_all(spec, peer, names)
    gc.collect()
    held_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # The first round of renewals is on its way by then, for every lease.
    await asyncio.sleep(spec.warmup)
    channel.send({"ready": True, "bytes": held_bytes / len(names)})
    if await channel.receive_async() != "go":
        return
    lags = array("d")
    measuring = asyncio.create_task(_measure_lag(lags))
    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.sleep(spec.seconds)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    measuring.cancel()
    ordered, losses = sorted(lags), peer.losses()
    channel.send(
        {
            "seconds": seconds,
            "client_cpu": cpu,
            "bytes": held_bytes / len(names),
            "lag_p99": quantile(ordered, 0.99),
            "lag_longest": ordered[-1] if ordered else 0.0,
            "lost": len(losses),
            "losses": sorted(set(losses))[:3],
        }
    )


async def _acquire_all(spec: Spec, peer: Keeper, names: list[str]) -> None:
    """Acquire over a third of the ttl at least, as leases of a service would be."""
    pause = spec.ttl / 3 * ACQUIRERS / len(names)

    async def acquire(first: int) -> None:
        due = time.perf_counter()
        for name in names[first::ACQUIRERS]:
            await peer.keep(name)
            due += pause
            await asyncio.sleep(max(0.0, due - time.perf_counter()))

    await asyncio.gather(*(acquire(first) for first in range(ACQUIRERS)))


async def _measure_lag(lags: array[float]) -> None:
    clock = time.perf_counter
    while True:
        began = clock()
        await asyncio.sleep(LAG_PAUSE)
        lags.append(clock() - began - LAG_PAUSE)
