"""Reads a page, or writes it, or reads and then writes it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiodistlock import LockClient, ReadWriteLease
from tests.simulation.kinds import TIMEOUTS
from tests.simulation.pages import NAMESPACE

if TYPE_CHECKING:
    from tests.simulation.worker import Worker


async def read_or_write(worker: Worker, client: LockClient, name: str) -> None:
    """Take one of the sides, and perhaps change it."""
    rng = worker.kinds_rng
    rw = client.rwlock(
        name,
        ttl=rng.choice(worker.plan.ttls),
        timeout=rng.choice(TIMEOUTS),
        local_handoffs=rng.choice((0, 3, 128)),
        backoff=worker.backoff,
        namespace=NAMESPACE,
    )
    mode = rng.choice("rrrrwwu")
    if worker.plan.streams:
        mode = "r" if worker.number else "w"
    worker.doing = f"{rw!r}, {mode}"
    side = {"r": rw.read, "w": rw.write, "u": rw.upgradeable}[mode]()
    async with worker.bounded(), side as lease:
        await _visit(worker, name, lease)
        if mode == "u" and rng.random() < 0.8:
            await lease.upgrade(rng.choice(TIMEOUTS))
            await _visit(worker, name, lease)
        if lease.mode == "write" and rng.random() < 0.5:
            await lease.downgrade()
            await _visit(worker, name, lease)


async def _visit(worker: Worker, name: str, lease: ReadWriteLease) -> None:
    rng, judge = worker.kinds_rng, worker.judge
    visit = judge.pages.begins(worker.process, name, lease)
    if worker.plan.streams:
        long: tuple[float, ...] = (0.03, 0.03)
    else:
        long = (lease._process_lease.options.ttl,) if worker.plan.bodies == "long" else ()
    try:
        for _ in range(rng.randint(1, 4)):
            judge.pages.look()
            await asyncio.sleep(rng.choice((0.0, 0.001, 0.01, *long)) * rng.random())
            judge.goes_on(visit)
            if worker.stopping:
                break
    finally:
        judge.pages.ends(visit)
