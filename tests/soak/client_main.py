"""A client process of the soak: its tasks take locks, and tell of it line by line on stdout.

    python -m tests.soak.client_main PARENT_PID LABEL NAMESPACE URL [URL...]

``ready``, ``began NUMBER NAME FENCE ASKED AT UNTIL``, ``relies NUMBER AT UNTIL``, ``extended
NUMBER ASKED ANSWERED``, ``left NUMBER AT``; see :mod:`tests.soak.history`. SIGTERM has it end
what it does, and close its client.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
from contextlib import suppress
from random import Random

from aiodistlock import AsyncLock, Backoff, Lease, LeaseLost, LockClient, LockError
from aiodistlock.core.clock import local_clock
from aiodistlock.demo.worker import die_with_parent

NAMES = ("a", "b")
TASKS = 3
TTLS = (0.6, 1.5)

QUARANTINE = 2.0
"""Seconds for which a node of a quorum is not counted that came up without its data."""


def say(*words: object) -> None:
    """Tell something in one write: whoever is killed has told a line, or has not."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


class Task:
    """Takes one lock after the other until the process is told to end."""

    numbers = itertools.count()

    def __init__(self, client: LockClient, namespace: str, *, lingers: bool) -> None:
        self._client = client
        self._namespace = namespace
        self._lingers = (0.0, 0.0, 0.2) if lingers else (0.0,)
        self._rng = Random()

    async def run(self, told: asyncio.Event) -> None:
        """Run until told."""
        rng = self._rng
        while not told.is_set():
            await asyncio.sleep(rng.uniform(0.0, 0.05))
            ttl = rng.choice(TTLS)
            lock = self._client.lock(
                rng.choice(NAMES),
                namespace=self._namespace,
                ttl=ttl,
                linger=rng.choice(self._lingers),
                backoff=Backoff(initial=0.02, factor=2.0, cap=0.5),
            )
            with suppress(LockError):  # no server, no time, or a lease that was lost
                await self._once(lock, ttl)

    async def _once(self, lock: AsyncLock, ttl: float) -> None:
        rng, asked_at = self._rng, local_clock()
        async with lock.hold(timeout=rng.choice((None, 5.0, 0.3))) as lease:
            number = next(self.numbers)
            at, validity = local_clock(), lease.validity
            say("began", number, lease.name, lease.fencing_token, asked_at, at, at + validity)
            try:
                await self._body(lease, number, ttl)
            finally:
                say("left", number, local_clock())

    async def _body(self, lease: Lease, number: int, ttl: float) -> None:
        rng = self._rng
        usual = rng.choice((0.0, 0.005, 0.02, 0.1))
        longest = usual if rng.random() < 0.98 else 2.5 * max(TTLS)
        for _ in range(rng.randint(1, 3)):
            await asyncio.sleep(longest * rng.random())
            if rng.random() < 0.1:
                asked_at = local_clock()
                with suppress(LeaseLost):
                    await lease.extend(ttl)
                    say("extended", number, asked_at, local_clock())
            at, validity = local_clock(), lease.validity
            if validity > 0.0:
                say("relies", number, at, at + validity)


async def main(label: str, namespace: str, *urls: str) -> None:
    """Run all tasks."""
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    say("ready")
    protocol = Random().choice((2, 3))
    client = LockClient.from_url(
        urls[0] if len(urls) == 1 else urls, label=label, protocol=protocol, quarantine=QUARANTINE
    )
    async with client, asyncio.TaskGroup() as tasks:
        for _ in range(TASKS):
            tasks.create_task(Task(client, namespace, lingers=len(urls) == 1).run(told))


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    asyncio.run(main(*sys.argv[2:]))
