"""Leads, and tells who leads."""

from __future__ import annotations

import asyncio
import math
from contextlib import aclosing, suppress
from random import Random
from typing import TYPE_CHECKING

from aiodistlock import Leader, LockClient, LockError, NotHeld, Term
from tests.simulation.judge import NAMESPACE
from tests.simulation.kinds import TIMEOUTS

if TYPE_CHECKING:
    from tests.simulation.judge import Judge
    from tests.simulation.process import Process
    from tests.simulation.worker import Worker


async def elect(worker: Worker, client: LockClient, name: str) -> None:
    """Lead for a while, in one way or the other, or ask who leads."""
    rng, judge = worker.kinds_rng, worker.judge
    election = client.election(
        name,
        value=f"{worker.process.label} {worker.number}",
        ttl=rng.choice(worker.plan.ttls),
        backoff=worker.backoff,
        namespace=NAMESPACE,
        ack=rng.choice(("local", worker.plan.ack)),
    )
    worker.doing = f"{election!r}"
    asked_at = judge.now
    way = rng.random()
    if way < 0.15:
        leader = await election.leader(timeout=rng.choice((None, 5.0, 0.1)))
        judge.leaders.told(name, leader)
    elif way < 0.4:
        await election.run(lambda term: _term(worker, name, term, asked_at))
    else:
        async with worker.bounded(), election.lead(rng.choice(TIMEOUTS)) as term:
            await _term(worker, name, term, asked_at)


async def _term(worker: Worker, name: str, term: Term, asked_at: float) -> None:
    """Lead."""
    rng, judge = worker.kinds_rng, worker.judge
    held = judge.began(worker.process, name, term._lease, asked_at, kind="election")
    judge.leaders.begins(held, term.value)
    if rng.random() < 0.2:
        worker.beside(_resign(term, rng.random() * 0.05))

    async def also() -> None:
        draw = rng.random()
        if draw < 0.2:
            value = f"{term.value.split(',')[0]}, {rng.random()}"
            judge.leaders.proclaims(held, value)
            await term.proclaim(value)
        elif draw < 0.25:
            await term.resign()
            judge.note("order", f"{term!r} goes on behind its resignation")

    try:
        await worker.body([held], cancelled=True, also=also)
    finally:
        judge.leaders.ends(held)


async def _resign(term: Term, pause: float) -> None:
    await asyncio.sleep(pause)
    with suppress(NotHeld):
        await term.resign()


class Observer:
    """
    Observes an election, from time to time.

    :ivar since: true time since when, without a gap; infinite: not now
    :ivar seen: who leads, as it was told last; ``None``: nobody
    :ivar terms: that it was told of
    :ivar highest: of these
    """

    def __init__(self, process: Process, judge: Judge, name: str, rng: Random) -> None:
        self.process = process
        self.name = name
        self._judge = judge
        self._rng = rng
        self.since = math.inf
        self.seen: Leader | None = None
        self.terms: set[int] = set()
        self.highest = 0

    async def run(self, client: LockClient) -> None:
        """Observe until the client is closed."""
        rng, leaders = self._rng, self._judge.leaders
        await asyncio.sleep(0.3 * rng.random())  # somebody may lead, or begin to
        election = client.election(self.name, namespace=NAMESPACE)
        while not client._closed:
            with suppress(LockError, TimeoutError):
                async with asyncio.timeout(None if rng.random() < 0.8 else rng.random()):
                    async with aclosing(election.observe()) as told:
                        leaders.observers[self] = None
                        async for each in told:
                            leaders.saw(self, each)
            leaders.observers.pop(self, None)
            self.since, self.seen = math.inf, None
            if not client._closed:
                await asyncio.sleep(0.05 * rng.random())
