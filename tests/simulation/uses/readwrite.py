"""Reads a page, or writes it, or reads and then writes it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiodistlock import LockClient, ReadWriteLease
from tests.simulation.kinds import TIMEOUTS

if TYPE_CHECKING:
    from tests.simulation.worker import Worker

NAMESPACE = "page:"
"""Of names that nobody takes otherwise: what stands at their keys is of several holders."""


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
    visit = judge.pages.begins(name, lease)
    try:
        for _ in range(rng.randint(1, 4)):
            judge.pages.look()
            await asyncio.sleep(rng.choice((0.0, 0.001, 0.01)) * rng.random())
    finally:
        judge.pages.ends(visit)
