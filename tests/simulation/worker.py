"""What the tasks of a process do: take locks in every way, and hold them for a while."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import TYPE_CHECKING, Any

from aiodistlock import AcquireTimeout, AsyncLock, Backoff, Lease, LockClient, LockError
from aiodistlock.errors import LeaseLost, StoreUnavailable
from tests.simulation.judge import NAMESPACE, Judge
from tests.simulation.kinds import TIMEOUTS
from tests.simulation.known import Held
from tests.simulation.process import Process
from tests.simulation.uses import USES

if TYPE_CHECKING:
    from tests.simulation.plan import Plan

BACKOFFS = (
    Backoff(initial=0.01, factor=2.0, cap=0.2),
    # Of who does not poll: only what it is told, and what it knows, has it ask in time.
    Backoff(initial=20.0, factor=1.0, cap=20.0, jitter=0.0),
)
"""One of them for all in a schedule; on a quorum, which has no queue, the first."""


BODIES = {"short": (0.0, 0.0, 0.001, 0.005), "mixed": (0.0, 0.0, 0.001, 0.005, 0.02), "long": ()}
"""How long bodies are at most, seconds, besides those that outlast a ttl; "short": no others."""


class Mishap(Exception):
    """What a body raises."""


class Worker:
    """One task, that takes one lock after the other until it is told to stop."""

    def __init__(self, process: Process, judge: Judge, plan: Plan, number: int) -> None:
        self.process = process
        self.number = number
        self.judge = judge
        self.plan = plan
        self._rng = Random(f"{plan.seed}:{process.label}:{number}")
        patient = not plan.is_quorum and Random(f"{plan.seed}:backoff").random() < 0.5
        self.backoff = BACKOFFS[patient]
        self._lingers = Random(f"{plan.seed}:{process.label}:{number}:lingers")
        self.kinds_rng = Random(f"{plan.seed}:{process.label}:{number}:kinds")
        """For what is done with other kinds of locks."""
        self.stopping = self.ending = False
        self._locks: dict[Any, AsyncLock] = {}
        self.doing = "nothing"
        self._waits_since = 0.0
        """Since when it waits for a lock, by its process's clock; 0.0: it does not."""
        self._timeout: float | None = None
        """For how long it does so, seconds."""
        self._wanted: dict[Worker, float] = {}
        """Where it stands while it wants a lock, with the time since when."""
        self.task: asyncio.Task[Any] | None = None
        self.tasks_beside: list[asyncio.Task[None]] = []

    def _lock(self, client: LockClient, name: str) -> AsyncLock:
        rng = self._rng
        ttl = rng.choice(self.plan.ttls)
        options: dict[str, Any] = {"ttl": ttl}
        draw = rng.random()
        if draw < 0.1:
            options["on_lost"] = "signal"
        elif draw < 0.2:
            options["auto_renew"] = False
        elif draw < 0.3:
            options["max_hold"] = max(0.05, ttl * rng.choice((0.5, 1.5)))
        elif draw < 0.4:
            options["reentrant"] = True
        elif draw < 0.5:
            options["local_handoffs"] = rng.choice((0, 1, 3))
        options |= self.lingers(options)
        key = (id(client), name, *options.items())
        lock = self._locks.get(key)
        if lock is None:
            made = client.lock(name, namespace=NAMESPACE, backoff=self.backoff, **options)
            lock = self._locks[key] = made
        return lock

    def lingers(self, options: dict[str, Any]) -> dict[str, Any]:
        """Draw what waits for an acknowledgement, and for how long what else may does linger."""
        if self.plan.ack != "local" and self._lingers.random() < 0.5:
            return {"ack": self.plan.ack}
        may_linger = options.get("auto_renew", True) and options.get("local_handoffs", 1)
        if not may_linger or self.plan.is_quorum:
            return {}
        return {"linger": self._lingers.choice(self.plan.lingers)}

    async def run(self, client: LockClient) -> None:
        """Take locks, one after the other."""
        rng = self._rng
        self.task = task = asyncio.current_task()
        assert task is not None
        while not self.stopping and not client._closed:
            try:
                self.doing = "a pause"
                await asyncio.sleep(rng.choice((0.0, 0.0, 0.003, 0.03)) * rng.random())
                name = rng.choice(list(self.judge.names))
                kind = ""
                if self.plan.kinds and self.kinds_rng.random() < 0.5:
                    kind = self.kinds_rng.choice(self.plan.kinds)
                    with suppress(LockError, Mishap):
                        await USES[kind](self, client, name)
                else:
                    lock = self._lock(client, name)
                    self.doing = f"{lock!r}"
                    with suppress(LockError, Mishap):
                        await self._ask_for(lock, name)
                if kind == "redis-py":
                    while task.uncancel():  # it may not hear of one (CPython #86296)
                        pass
                elif task.cancelling():
                    self.judge.note("swallowed", f"{self.doing} was cancelled, and goes on")
            except asyncio.CancelledError:
                # By somebody who gave up on what it did, as of a request that took too long.
                if self.ending or task.uncancel() > 0:
                    raise

    def beside(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Have its process do something besides."""
        self.tasks_beside = [each for each in self.tasks_beside if not each.done()]
        self.tasks_beside.append(asyncio.ensure_future(coroutine))

    async def _ask_for(self, lock: AsyncLock, name: str) -> None:
        self._waits_since = since = self.process.clock()
        self._wanted = self.judge.names[name].wait.wanted
        self._wanted[self] = self.judge.now
        try:
            await self._once(lock, name)
        except AcquireTimeout:
            if self._waits_since:
                self.judge.waited(self.process, since, self._timeout)
            raise
        except StoreUnavailable as error:
            waited = self.process.clock() - since
            if self._waits_since and waited < self.process.patience:
                self.judge.note("refused", f"{lock!r} after {waited:.3f} s: {error}")
            raise
        finally:
            self._wanted.pop(self, None)

    async def _once(self, lock: AsyncLock, name: str) -> None:
        rng = self._rng
        if self.plan.look_costs and rng.random() < 0.2:
            await self._in_a_row(lock, name)
            return
        timeout = rng.choice(TIMEOUTS)
        way = rng.random()
        self._timeout = None if way < 0.15 else timeout
        if way < 0.15:
            lease = await lock.try_acquire()
            if lease is not None:
                await self._use(lease, name)
        elif way < 0.35:
            await self._use(await lock.acquire(timeout=timeout), name)
        else:
            async with self.bounded(), lock.hold(timeout=timeout) as lease:
                await self._body(lease, name, cancelled=lock._options.on_lost == "cancel")
                if lock._options.reentrant:
                    async with lock.hold() as again:
                        assert again is lease

    async def _in_a_row(self, lock: AsyncLock, name: str) -> None:
        """Use a lock again and again, and await nothing but that."""
        judge = self.judge
        for _ in range(150):
            if self.stopping:
                return
            asked_at = judge.now
            async with lock.hold() as lease:
                judge.ended(judge.began(self.process, name, lease, asked_at))

    @asynccontextmanager
    async def bounded(self) -> AsyncIterator[None]:
        """Sometimes give it little time, to be cancelled at any await."""
        if self._rng.random() < 0.85:
            yield
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(
                self._rng.choice((0.0003, 0.002, 0.02, 0.2)) * self._rng.random()
            ):
                yield

    async def _use(self, lease: Lease, name: str) -> None:
        """Hold a lease of which nobody tells its task when it is lost, and release it."""
        try:
            await self._body(lease, name, cancelled=False)
        finally:
            with suppress(LockError):  # it would take the place of a cancellation
                await lease.release()

    async def _body(self, lease: Lease, name: str, *, cancelled: bool) -> None:
        asked_at = self._wanted.pop(self, 0.0)
        self.judge.waited(self.process, self._waits_since, self._timeout)
        self._waits_since = 0.0
        await self.body([self.judge.began(self.process, name, lease, asked_at)], cancelled)

    async def body(
        self,
        held: Sequence[Held],
        cancelled: bool,
        also: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        """
        Be the body of one block, on what is held by it.

        :param cancelled: whether it is cancelled when a lease is lost
        :param also: what it does besides, at each step
        """
        rng, judge, plan = self._rng, self.judge, self.plan
        lease = held[-1].lease
        self.doing = f"{lease!r}"
        ttl = lease._process_lease.options.ttl
        try:
            if plan.busy and rng.random() < 0.3:
                await asyncio.sleep(0)  # for the claim leaves behind what a body does at first
                self.process.stand_still(ttl * rng.uniform(0.1, 0.2))
            long = () if plan.bodies == "short" else (ttl, 2.5 * ttl)
            longest = rng.choice((*BODIES[plan.bodies], *long))
            steps = rng.randint(1, 40 if plan.bodies == "long" else 4)
            for each in held:
                judge.wrote(each)
            for _ in range(steps):
                await asyncio.sleep(longest / steps * rng.random())
                if self.stopping:
                    break
                for each in held:
                    if cancelled:
                        judge.goes_on(each)
                    judge.wrote(each)
                if rng.random() < plan.extends:
                    asked_at = judge.now
                    with suppress(LeaseLost):
                        await lease.extend(rng.uniform(0.05, ttl) if rng.random() < 0.5 else ttl)
                        judge.relies_on(held[-1], asked_at)
                if also is not None:
                    await also()
            if rng.random() < 0.05:
                raise Mishap
        finally:
            for each in held:
                judge.ended(each)
