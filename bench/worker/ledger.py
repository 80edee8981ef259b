"""Events of the sample, applied to wallets under their locks: read, compute, write.

Each process has a stream of events of its own, in which most are of wallets whose home it is.
When one dies, the others take over what it had begun and what it would have got.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import count, islice
from random import Random
from typing import Any

from aiodistlock.demo.events import SAMPLE_SIZE, sample_events
from bench.peers.base import Peer
from bench.worker import channel
from bench.worker.spec import Spec
from bench.worker.wallets import MOST_EVENTS, PROCESSES, Wallets

MOST_LOSSES = 1_000
"""Leases that a worker may lose before it says that something is wrong."""

END_WITHIN = 30.0
"""Seconds for what was begun when the window closes: a dead process's locks expire before."""


@cache
def sample() -> tuple[list[tuple[int, int]], list[str]]:
    """Return wallet and cents of each event of the sample, and the names of the wallets."""
    events = [(each.wallet, each.amount) for each in sample_events()]
    names = sorted({wallet for wallet, _ in events})
    numbers = {name: number for number, name in enumerate(names)}
    return [(numbers[wallet], cents) for wallet, cents in events], names


def homes() -> list[int]:
    """Return the process of each wallet, so that all get about as many events."""
    events, names = sample()
    load = [0] * PROCESSES
    found = [0] * len(names)
    for wallet, times in Counter(wallet for wallet, _ in events).most_common():
        found[wallet] = process = load.index(min(load))
        load[process] += times
    return found


def routes(share: float) -> list[list[int]]:
    """
    Return the events of the sample that each process gets.

    :param share: of the events that come to the home of their wallet; else to any other
    """
    rng, home = Random(repr(share)), homes()
    found: list[list[int]] = [[] for _ in range(PROCESSES)]
    for number, (wallet, _) in enumerate(sample()[0]):
        process = home[wallet]
        if rng.random() >= share:
            process = (process + 1 + int(rng.random() * (PROCESSES - 1))) % PROCESSES
        found[process].append(number)
    return found


def stream(route: Sequence[int], first: int = 0) -> Iterator[int]:
    """Yield the events of a process from one on, the sample again and again, all apart."""
    for place in count(first):
        again, at = divmod(place, len(route))
        event = again * SAMPLE_SIZE + route[at]
        if event >= MOST_EVENTS:
            return
        yield event


class Work:
    """What one process does: its tasks take events, one after the other."""

    def __init__(self, spec: Spec, peer: Peer, store: Wallets) -> None:
        self._spec = spec
        self._peer = peer
        self._store = store
        self._sample, self._names = sample()
        self._routes = routes(spec.share)
        self._events = self._counted(stream(self._routes[spec.number]))
        # redis-py's lock has its token: each task has locks of its own.  Made before the window,
        # but for the wallets of a process that dies.
        wallets = {self._sample[event][0] for event in self._routes[spec.number]}
        self._locks = [{each: self._lock(each) for each in wallets} for _ in range(spec.tasks)]
        self._again: deque[int] = deque()
        """What a dead process had begun."""
        self._stopping = False
        self._applied = self._losses = 0

    def _counted(self, events: Iterator[int]) -> Iterator[int]:
        for taken, event in enumerate(events, 1):
            self._store.take(self._spec.number, taken)
            yield event

    def take_over(self, dead: int) -> None:
        """Take our part of what a dead process had begun, and was still to get."""
        route, taken, home = self._routes[dead], self._store.took(dead), homes()
        survivors = [process for process in range(PROCESSES) if process != dead]

        def ours(event: int) -> bool:
            wallet, _ = self._sample[event % SAMPLE_SIZE]
            which = wallet if home[wallet] == dead else event  # a wallet has one home again
            return survivors[which % len(survivors)] == self._spec.number

        begun = filter(ours, islice(stream(route), taken))
        self._again.extend(event for event in begun if not self._store.applied(event))
        self._events = heapq.merge(self._events, filter(ours, stream(route, taken)))

    def _lock(self, wallet: int) -> Any:
        return self._peer.lock(f"{self._spec.prefix}:{self._names[wallet]}")

    async def work(self, task: int) -> None:
        """Apply events until told to stop."""
        locks = self._locks[task]
        while (event := self._next()) is not None:
            wallet, cents = self._sample[event % SAMPLE_SIZE]
            lock = locks.get(wallet)
            if lock is None:
                lock = locks[wallet] = self._lock(wallet)
            while not await self._settled(lock, wallet, cents, event):
                pass

    def _next(self) -> int | None:
        if self._again:
            return self._again.popleft()
        return None if self._stopping else next(self._events, None)

    async def _settled(self, lock: Any, wallet: int, cents: int, event: int) -> bool:
        """Apply an event unless it is applied; False: it takes another lease."""
        store = self._store
        try:
            async with lock as lease:
                balance = store.balance(wallet)
                if store.applied(event):
                    return True
                fence = getattr(lease, "fencing_token", 0)  # redis-py's has none
                if not store.write(wallet, fence, balance + cents, event):
                    return False
        except Exception:
            # Lost, or its release was refused.  Whether it was applied is asked again.
            self._losses += 1
            if self._losses > MOST_LOSSES:
                raise
            return False
        self._applied += 1
        return True

    async def warm_up(self) -> None:
        """Have each task connect, and load the scripts."""

        async def lock_once(task: int) -> None:
            async with self._peer.lock(f"{self._spec.prefix}:{self._spec.number}:{task}"):
                pass

        await asyncio.gather(*map(lock_once, range(self._spec.tasks)))

    async def measure(self) -> dict[str, Any]:
        """Work, taking over from the dead, until told to stop; return the figures."""
        cpu = time.process_time()
        tasks = [asyncio.create_task(self.work(task)) for task in range(self._spec.tasks)]
        while (word := await channel.receive_async()).startswith("dead "):
            self.take_over(int(word.removeprefix("dead ")))
        cpu = time.process_time() - cpu
        applied, self._stopping = self._applied, True
        async with asyncio.timeout(END_WITHIN):
            await asyncio.gather(*tasks)
        return {"applied": applied, "client_cpu": cpu, "losses": self._losses}


async def run(spec: Spec, peer: Peer) -> None:
    """Connect, report ready, work, report the figures."""
    assert spec.page is not None, "all processes write to one store"
    work = Work(spec, peer, Wallets(spec.page, len(sample()[1])))
    await work.warm_up()
    channel.send({"ready": True})
    if await channel.receive_async() == "go":
        channel.send(await work.measure())
