"""Does a window, unless it is done: one that its caller names, or the server's clock."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Literal

from aiodistlock import LeaseLost, LockClient, Ran, Run, Skipped
from tests.simulation.judge import NAMESPACE
from tests.simulation.kinds import TIMEOUTS
from tests.simulation.known import Held
from tests.simulation.redis.server import EPOCH_US

if TYPE_CHECKING:
    from tests.simulation.worker import Worker

WINDOW = 0.05
"""Seconds from one window to the next."""


async def do_once(worker: Worker, client: LockClient, name: str) -> None:
    """Do a window, this one or the one before."""
    rng, judge = worker.kinds_rng, worker.judge
    windows = judge.windows
    asked_at = judge.now
    # The clock's windows are above all others: who goes by them has none besides.
    every = WINDOW if Random(f"{worker.plan.seed}:every").random() < 0.2 else None
    window = max(0, int(asked_at / WINDOW) - rng.choice((0, 0, 0, 1)))
    at_most = rng.random() < 0.3
    on_lost: Literal["cancel", "signal"] = "signal" if rng.random() < 0.3 else "cancel"
    once = client.once(
        name,
        every=every,
        ttl=rng.choice(worker.plan.ttls),
        on_crash="skip" if at_most else "retry",
        timeout=rng.choice(TIMEOUTS),
        on_lost=on_lost,
        namespace=NAMESPACE,
    )
    worker.doing = f"{once!r}, window {window}"
    ended: Held | None = None
    was_held = False

    async def job(run: Run) -> None:
        nonlocal ended, was_held, window
        if every is not None:
            since = run.window.timestamp()
            windows.told(name, since - EPOCH_US / 1e6, asked_at)
            window = round(since / every)
        windows.begins(name, window, asked_at, marked=at_most)
        held = judge.began(worker.process, name, run._lease, asked_at, kind="once")
        await worker.body([held], cancelled=on_lost == "cancel")
        ended, was_held = held, run._lease.is_held

    outcome: Ran[None] | Skipped | None = None
    try:
        async with worker.bounded():
            outcome = await once.run(job, window=None if every else window)
    except LeaseLost as error:
        if ended is not None and was_held and not client._closed:
            windows.lost(ended, str(error))
        raise
    if isinstance(outcome, Ran):
        windows.done(name, window, asked_at)
        if not was_held:
            judge.note("once", f"{ended} was lost, and window {window} of {name} is done")
