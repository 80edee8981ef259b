"""Holds many leases, and measures what keeping them costs."""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc

from bench.peers.base import Keeper
from bench.worker import channel
from bench.worker.record import quantile
from bench.worker.spec import Spec

ACQUIRERS = 32
"""Tasks that acquire the leases."""

ACQUIRE_RATE = 1500
"""Most leases acquired in a second, so that renewals are spread over time, and that the
slowest lock can renew meanwhile what it has."""

WEIGHED = 1000
"""How many leases are weighed: tracemalloc is too slow for all of them."""

LAG_PAUSE = 0.005
"""Pause of the task that measures the event loop's lag, seconds."""


async def run(spec: Spec, peer: Keeper) -> None:
    """Acquire the leases, report ready, hold them, report the figures."""
    names = [f"{spec.prefix}:{task}" for task in range(spec.tasks)]
    # One before, so that connections and scripts are not counted as its bytes.
    await peer.keep(f"{spec.prefix}:first")
    weighed = names[:WEIGHED]
    gc.collect()
    tracemalloc.start()
    await _acquire_all(spec, peer, weighed)
    gc.collect()
    held_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    await _acquire_all(spec, peer, names[WEIGHED:])
    # The first round of renewals is on its way by then, for every lease.
    await asyncio.sleep(spec.warmup)
    channel.send({"ready": True})
    if await channel.receive_async() != "go":
        return
    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.sleep(spec.seconds)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    channel.send({"seconds": seconds, "client_cpu": cpu})
    # Afterwards, because measuring the lag takes more CPU than 1,000 leases do.
    lags = await _measure_lag(spec.seconds / 2)
    losses = peer.losses()
    channel.send(
        {
            "bytes": held_bytes / len(weighed),
            "lag_p99": quantile(lags, 0.99),
            "lag_longest": lags[-1],
            "lost": len(losses),
            "losses": sorted(set(losses))[:3],
        }
    )


async def _acquire_all(spec: Spec, peer: Keeper, names: list[str]) -> None:
    """Acquire over a third of the ttl at least, as leases of a service would be."""
    if not names:
        return
    pause = max(spec.ttl / 3 / len(names), 1 / ACQUIRE_RATE) * ACQUIRERS

    async def acquire(first: int) -> None:
        due = time.perf_counter()
        for name in names[first::ACQUIRERS]:
            await peer.keep(name)
            due += pause
            await asyncio.sleep(max(0.0, due - time.perf_counter()))

    await asyncio.gather(*(acquire(first) for first in range(ACQUIRERS)))


async def _measure_lag(seconds: float) -> list[float]:
    """Return by how much sleeps were late, in order."""
    clock, lags = time.perf_counter, []
    until = clock() + seconds
    while clock() < until:
        began = clock()
        await asyncio.sleep(LAG_PAUSE)
        lags.append(clock() - began - LAG_PAUSE)
    return sorted(lags)
