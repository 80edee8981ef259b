"""Takes redis-py's own lock, which polls, on the same key."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from redis.asyncio.lock import Lock
from redis.exceptions import LockError, RedisError

from aiodistlock import LockClient
from tests.simulation.judge import NAMESPACE

if TYPE_CHECKING:
    from tests.simulation.worker import Worker


class _TimedLock(Lock):
    """Tells when it asked last, by a clock."""

    clock: Callable[[], float]
    asked_at = 0.0

    async def do_acquire(self, token: str | bytes) -> bool:
        """Ask once."""
        self.asked_at = self.clock()
        return await super().do_acquire(token)


async def lock_with_redis_py(worker: Worker, _client: LockClient, name: str) -> None:
    """Take it, and give it up."""
    rng, judge, process = worker.kinds_rng, worker.judge, worker.process
    ttl = rng.choice(worker.plan.ttls)
    lock = _TimedLock(process.redis_py, f"{NAMESPACE}{name}", timeout=ttl, sleep=0.01)
    lock.clock = process.clock
    token = f"{process.label}:redis-py:{next(process.numbers)}"
    worker.doing = f"redis-py's lock {token}"
    with suppress(RedisError, OSError, TimeoutError):
        async with worker.bounded():
            if not await lock.acquire(blocking_timeout=rng.choice((0.0, 0.05, 0.5)), token=token):
                return
            deadline = lock.asked_at + ttl * 0.99 - 0.002
            held = judge.plain_began(name, process, token.encode(), deadline)
            try:
                for _ in range(rng.randint(1, 3)):
                    await asyncio.sleep(rng.choice((0.0, 0.005, 0.02)) * rng.random())
            finally:
                judge.plain_ended(name, held)
            with suppress(LockError):
                await lock.release()
