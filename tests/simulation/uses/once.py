"""Does a window, unless it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiodistlock import LockClient, Ran, Run, Skipped
from tests.simulation.judge import NAMESPACE
from tests.simulation.kinds import TIMEOUTS

if TYPE_CHECKING:
    from tests.simulation.worker import Worker

WINDOW = 0.05
"""Seconds from one window to the next."""


async def do_once(worker: Worker, client: LockClient, name: str) -> None:
    """Do a window, this one or the one before."""
    rng, judge = worker.kinds_rng, worker.judge
    windows = judge.windows
    asked_at = judge.now
    window = max(0, int(asked_at / WINDOW) - rng.choice((0, 0, 0, 1)))
    at_most = rng.random() < 0.3
    once = client.once(
        name,
        ttl=rng.choice(worker.plan.ttls),
        on_crash="skip" if at_most else "retry",
        timeout=rng.choice(TIMEOUTS),
        namespace=NAMESPACE,
    )
    worker.doing = f"{once!r}, window {window}"

    async def job(run: Run) -> None:
        windows.begins(name, window, asked_at, marked=at_most)
        held = judge.began(worker.process, name, run._lease, asked_at, kind="once")
        await worker.body([held], cancelled=True)

    outcome: Ran[None] | Skipped | None = None
    async with worker.bounded():
        outcome = await once.run(job, window=window)
    if isinstance(outcome, Ran):
        windows.done(name, window, asked_at)
