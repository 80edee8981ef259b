"""Cancellation at every await: nothing stays behind, the next one proceeds at once."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any

import anyio
import pytest
import redis.asyncio as redis_asyncio

from aiodistlock import (
    AcquireTimeout,
    AsyncLock,
    Election,
    Lease,
    LeaseLost,
    LockClient,
    ReadWriteLock,
    Run,
    Semaphore,
    Together,
)
from tests.faults.world import PATIENT, client, eventually, nothing_left, waiters

TTL = 30.0
"""Longer than a test may take: an orphan is not forgiven by its expiry."""


class World:
    """Three clients, as three processes would have them, and a name for each round."""

    def __init__(self, url: str, redis: redis_asyncio.Redis, namespace: str, protocol: int) -> None:
        # With no span each local release with somebody waiting asks Redis (pass_on).
        self.redis, self.namespace = redis, namespace
        self.here = client(url, protocol=protocol)
        self.here_no_span = client(url, protocol=protocol, handoff_span=0.0)
        self.there = client(url, protocol=protocol)
        self.round = 0

    def lock(self, source: LockClient, **options: Any) -> AsyncLock:
        """Build the round's lock; its waiters do not poll."""
        options = {"ttl": TTL, "namespace": self.namespace, "backoff": PATIENT, **options}
        return source.lock(f"n{self.round}", **options)

    def together(self, source: LockClient, **options: Any) -> Together:
        """Build a block on the round's lock, one before it and two behind it."""
        names = [f"n{self.round}{behind}" for behind in ("", "!", "+")]
        options = {"ttl": TTL, "namespace": self.namespace, "backoff": PATIENT, **options}
        return source.together(*names, f"m{self.round}", **options)

    def election(self, **options: Any) -> Election:
        """Build an election of the round's name."""
        return self.here.election(
            f"n{self.round}", ttl=TTL, namespace=self.namespace, backoff=PATIENT, **options
        )

    def rwlock(self, source: LockClient) -> ReadWriteLock:
        """Build a read/write lock of the round's name."""
        return source.rwlock(f"n{self.round}", ttl=TTL, namespace=self.namespace, backoff=PATIENT)

    async def queued(self, count: int) -> None:
        """Wait until so many wait at Redis."""
        await eventually(lambda: waiters(self.redis, self.namespace, f"n{self.round}"), count)

    async def aclose(self) -> None:
        """Close the clients."""
        for each in (self.here, self.here_no_span, self.there):
            await each.aclose()


@pytest.fixture(params=[3, 2], ids=["resp3", "resp2"])
async def world(
    redis_url: str, redis: redis_asyncio.Redis, namespace: str, request: pytest.FixtureRequest
) -> AsyncIterator[World]:
    """Clients whose connections and scripts are warm."""
    made = World(redis_url, redis, namespace, request.param)
    for each in (made.here, made.here_no_span, made.there):
        lease = await made.lock(each).acquire()
        waiter = asyncio.create_task(made.lock(each, local_handoffs=0).acquire())
        await made.queued(1)
        await lease.release()
        await (await waiter).release()
    yield made
    await made.aclose()


Operation = Callable[[], Coroutine[Any, Any, Any]]
Scene = Callable[[World], Awaitable[tuple[Operation, Callable[[], Awaitable[None]]]]]
"""Sets a scene; gives what is to be cancelled, and what ends the scene."""


async def _release(lease: Lease | None) -> None:
    if lease is not None and not lease._released:
        with suppress(LeaseLost):
            await lease.release()


async def _no_more() -> None: ...


async def free(w: World) -> tuple[Operation, Callable[[], Awaitable[None]]]:
    """Acquire of a free lock; what was acquired after all is released."""

    async def operation() -> None:
        await _release(await w.lock(w.here).acquire())

    return operation, _no_more


async def free_try(w: World) -> tuple[Operation, Callable[[], Awaitable[None]]]:
    """try_acquire of a free lock."""

    async def operation() -> None:
        await _release(await w.lock(w.here).try_acquire())

    return operation, _no_more


async def contended(w: World) -> tuple[Operation, Callable[[], Awaitable[None]]]:
    """Acquire of a lock that is released, by another process, in the same turn."""
    theirs = await w.lock(w.there).acquire()

    async def operation() -> None:
        releasing = asyncio.create_task(theirs.release())
        try:
            await _release(await w.lock(w.here).acquire())
        finally:
            with anyio.CancelScope(shield=True):
                await releasing

    return operation, lambda: _release(theirs)


async def granted(w: World) -> tuple[Operation, Callable[[], Awaitable[None]]]:
    """A wait in the queue at Redis that ends by a grant."""
    theirs = await w.lock(w.there).acquire()
    ours = asyncio.create_task(w.lock(w.here).acquire())
    await w.queued(1)

    async def operation() -> None:
        releasing = asyncio.create_task(theirs.release())
        try:
            await _release(await ours)  # a cancellation goes on to what it awaits
        finally:
            with anyio.CancelScope(shield=True):
                await releasing

    async def end() -> None:
        ours.cancel()
        with suppress(asyncio.CancelledError):
            await _release(await ours)
        await _release(theirs)

    return operation, end


async def block(w: World) -> tuple[Operation, Callable[[], Awaitable[None]]]:
    """A whole ``async with`` block: entry, body, exit."""

    async def operation() -> None:
        async with w.lock(w.here):
            await asyncio.sleep(0)

    return operation, _no_more


async def handoff(w: World) -> tuple[Operation, Callable[[], Awaitable[None]]]:
    """A local hand-off: cancel the task that is next, or the one that releases."""
    first = await w.lock(w.here).acquire()

    async def operation() -> None:
        # Gathered: a cancellation strikes the one who releases and the one who waits.
        async def second() -> None:
            await _release(await w.lock(w.here).acquire())

        waiting = asyncio.create_task(second())
        await asyncio.sleep(0)
        await asyncio.gather(first.release(), waiting)

    return operation, lambda: _release(first)


async def passing_on(w: World) -> tuple[Operation, Callable[[], Awaitable[None]]]:
    """pass_on, to another process that waits, and back by its grant."""
    first = await w.lock(w.here_no_span).acquire()
    theirs = asyncio.create_task(w.lock(w.there).acquire())
    await w.queued(1)

    async def then_release() -> None:
        await _release(await theirs)

    ending = asyncio.create_task(then_release())

    async def operation() -> None:
        async def second() -> None:
            await _release(await w.lock(w.here_no_span).acquire())

        waiting = asyncio.create_task(second())
        await asyncio.sleep(0)
        await asyncio.gather(first.release(), waiting)

    async def end() -> None:
        await _release(first)
        await ending

    return operation, end


async def keeping(w: World) -> tuple[Operation, Callable[[], Awaitable[None]]]:
    """pass_on while nobody else waits: the lock is kept."""
    first = await w.lock(w.here_no_span).acquire()

    async def operation() -> None:
        async def second() -> None:
            await _release(await w.lock(w.here_no_span).acquire())

        waiting = asyncio.create_task(second())
        await asyncio.sleep(0)
        await asyncio.gather(first.release(), waiting)

    return operation, lambda: _release(first)


async def renewed_handoff(w: World) -> tuple[Operation, Callable[[], Awaitable[None]]]:
    """A local hand-off to a task whose ttl is longer, so that the lease is renewed first."""
    first = await w.lock(w.here, ttl=TTL / 3).acquire()

    async def operation() -> None:
        async def second() -> None:
            await _release(await w.lock(w.here).acquire())

        waiting = asyncio.create_task(second())
        await asyncio.sleep(0)
        await asyncio.gather(first.release(), waiting)

    return operation, lambda: _release(first)


async def extending(w: World) -> tuple[Operation, Callable[[], Awaitable[None]]]:
    """extend: cancelled or not, the lease goes on and can be released."""
    lease = await w.lock(w.here).acquire()

    async def end() -> None:
        lease.check()
        await _release(lease)

    return lambda: lease.extend(TTL), end


async def releasing(w: World) -> tuple[Operation, Callable[[], Awaitable[None]]]:
    """release: cancelled or not, the lock is given up."""
    lease = await w.lock(w.here).acquire()
    return lease.release, lambda: _release(lease)  # cancelled before its first step


async def _once(w: World, **options: Any) -> tuple[Operation, Callable[[], Awaitable[None]]]:
    once = w.here.once(f"n{w.round}", ttl=TTL, namespace=w.namespace, **options)
    window = None if options.get("at_least") else 1
    ended = []

    async def job(_run: Run) -> None:
        await asyncio.sleep(0)
        ended.append(True)

    async def end() -> None:
        mark = await w.redis.get(once._keys.done)
        if not ended:
            assert mark is None or b" begun " in mark
        await w.redis.delete(once._keys.done)

    return lambda: once.run(job, window=window), end


async def once(w: World) -> tuple[Operation, Callable[[], Awaitable[None]]]:
    """What is done once: no mark but behind its end."""
    return await _once(w)


async def begun_once(w: World) -> tuple[Operation, Callable[[], Awaitable[None]]]:
    """What is begun at most once: marked before it begins."""
    return await _once(w, on_crash="skip")


async def at_least(w: World) -> tuple[Operation, Callable[[], Awaitable[None]]]:
    """What keeps its name for a moment."""
    return await _once(w, at_least=0.05)


async def leading(w: World) -> tuple[Operation, Callable[[], Awaitable[None]]]:
    """A term of an election: entry, proclamations, exit."""

    async def operation() -> None:
        async with w.election(value="a").lead() as term:
            await term.proclaim("b")

    return operation, _no_more


async def resigning(w: World) -> tuple[Operation, Callable[[], Awaitable[None]]]:
    """A term that its own task ends."""

    async def operation() -> None:
        async with w.election(value="a").lead() as term:
            await term.resign()

    return operation, _no_more


async def together(w: World) -> tuple[Operation, Callable[[], Awaitable[None]]]:
    """A whole block on four locks that are free."""

    async def operation() -> None:
        async with w.together(w.here):
            await asyncio.sleep(0)

    return operation, _no_more


async def together_refused(w: World) -> tuple[Operation, Callable[[], Awaitable[None]]]:
    """A try of four locks, one of which another process holds."""
    theirs = await w.lock(w.there).acquire()

    async def operation() -> None:
        with suppress(AcquireTimeout):
            await w.together(w.here, timeout=0).__aenter__()

    return operation, lambda: _release(theirs)


async def together_in_turn(w: World) -> tuple[Operation, Callable[[], Awaitable[None]]]:
    """A block on four locks, which waits in the queue of one, and gets a grant."""
    theirs = await w.lock(w.there).acquire()

    async def block() -> None:
        async with w.together(w.here):
            await asyncio.sleep(0)

    ours = asyncio.create_task(block())
    await w.queued(1)

    async def operation() -> None:
        releasing = asyncio.create_task(theirs.release())
        try:
            await ours  # a cancellation goes on to what it awaits
        finally:
            with anyio.CancelScope(shield=True):
                await releasing

    async def end() -> None:
        ours.cancel()
        with suppress(asyncio.CancelledError):
            await ours
        await _release(theirs)

    return operation, end


async def together_in_memory(w: World) -> tuple[Operation, Callable[[], Awaitable[None]]]:
    """A block on four locks, one of which a task of this process hands over."""
    first = await w.lock(w.here).acquire()

    async def operation() -> None:
        async def block() -> None:
            async with w.together(w.here):
                await asyncio.sleep(0)

        waiting = asyncio.create_task(block())
        await asyncio.sleep(0)
        await asyncio.gather(first.release(), waiting)

    return operation, lambda: _release(first)


def _permits(w: World, source: LockClient) -> Semaphore:
    return source.semaphore(f"p{w.round}", 2, ttl=TTL, namespace=w.namespace, backoff=PATIENT)


async def permits(w: World) -> tuple[Operation, Callable[[], Awaitable[None]]]:
    """Blocks of one permit and of two, of several tasks at a time."""
    semaphore = _permits(w, w.here)

    async def block(permits: int) -> None:
        async with semaphore.hold(permits=permits):
            await asyncio.sleep(0)

    async def operation() -> None:
        await asyncio.gather(block(1), block(2), block(1))

    return operation, lambda: _all_permits(w)


async def permits_in_turn(w: World) -> tuple[Operation, Callable[[], Awaitable[None]]]:
    """Waits in the queue for what another process gives back, in parts."""
    theirs = [await _permits(w, w.there).acquire() for _ in range(2)]
    semaphore = _permits(w, w.here)

    async def block(permits: int) -> None:
        async with semaphore.hold(permits=permits):
            await asyncio.sleep(0)

    ours = [asyncio.create_task(block(permits)) for permits in (1, 2)]

    async def queued() -> int:
        return len((await semaphore.inspect()).waiters)

    await eventually(queued, 1)  # no more is wanted at a time than there is

    async def operation() -> None:
        releasing = asyncio.gather(*(lease.release() for lease in theirs))
        try:
            await asyncio.gather(*ours)  # a cancellation goes on to what it awaits
        finally:
            with anyio.CancelScope(shield=True):
                await releasing

    async def end() -> None:
        for each in ours:
            each.cancel()
        await asyncio.gather(*ours, return_exceptions=True)
        for lease in theirs:
            await _release(lease)
        await _all_permits(w)

    return operation, end


async def _all_permits(w: World) -> None:
    """Check that all permits can be had at once."""
    await (await _permits(w, w.there).acquire(timeout=5, permits=2)).release()


async def reading(w: World) -> tuple[Operation, Callable[[], Awaitable[None]]]:
    """Two readers that share a lease, of which one leaves first."""

    async def operation() -> None:
        async with w.rwlock(w.here).read() as one, w.rwlock(w.here_no_span).read():
            await one.extend(TTL)

    return operation, _no_more


async def reading_in_turn(w: World) -> tuple[Operation, Callable[[], Awaitable[None]]]:
    """Readers that wait for a writer's grant, and one that joins them."""
    theirs = await w.rwlock(w.there).write().acquire()

    async def read() -> None:
        async with w.rwlock(w.here).read():
            await asyncio.sleep(0)

    ours = [asyncio.create_task(read()) for _ in range(2)]
    await w.queued(1)

    async def operation() -> None:
        releasing = asyncio.create_task(theirs.release())
        try:
            await asyncio.gather(*ours, read())
        finally:
            with anyio.CancelScope(shield=True):
                await releasing

    async def end() -> None:
        for each in ours:
            each.cancel()
        await asyncio.gather(*ours, return_exceptions=True)
        await _release(theirs)

    return operation, end


async def writing(w: World) -> tuple[Operation, Callable[[], Awaitable[None]]]:
    """A writer that waits for a reader, and reads on."""
    theirs = await w.rwlock(w.there).read().acquire()

    async def operation() -> None:
        releasing = asyncio.create_task(theirs.release())
        try:
            async with w.rwlock(w.here).write() as lease:
                await lease.downgrade()
        finally:
            with anyio.CancelScope(shield=True):
                await releasing

    return operation, lambda: _release(theirs)


async def upgrading(w: World) -> tuple[Operation, Callable[[], Awaitable[None]]]:
    """A reader that writes when another one has left, and reads on, and writes again."""
    theirs = await w.rwlock(w.there).read().acquire()

    async def operation() -> None:
        releasing = None
        try:
            async with w.rwlock(w.here).upgradeable() as lease:
                releasing = asyncio.create_task(theirs.release())
                await lease.upgrade()
                await lease.downgrade()
                await lease.upgrade()
        finally:
            if releasing is not None:
                with anyio.CancelScope(shield=True):
                    await releasing

    return operation, lambda: _release(theirs)


SCENES = [
    free, free_try, contended, granted, block, handoff, passing_on, keeping, renewed_handoff,
    extending, releasing, once, begun_once, at_least, together, together_refused,
    together_in_turn, together_in_memory, leading, resigning, permits, permits_in_turn,
    reading, reading_in_turn, writing, upgrading,
]  # fmt: skip


async def natively(operation: Operation, turns: int) -> bool:
    """Cancel by ``Task.cancel`` after so many turns of the loop; tell whether it was in time."""
    task = asyncio.create_task(operation())
    for _ in range(turns):
        if task.done():
            break
        await asyncio.sleep(0)
    if task.done():
        await task
        return False
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
        return False
    return True


async def by_scope(operation: Operation, turns: int) -> bool:
    """Cancel by an anyio scope after so many turns of the loop."""
    scope = anyio.CancelScope()

    async def scoped() -> None:
        with scope:
            await operation()

    task = asyncio.create_task(scoped())
    for _ in range(turns):
        if task.done():
            break
        await asyncio.sleep(0)
    scope.cancel()
    await task
    return scope.cancelled_caught


@pytest.mark.bounded(60)
@pytest.mark.parametrize("cancel", [natively, by_scope])
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
async def test_cancelled_at_every_step_nothing_stays_behind(
    world: World, scene: Scene, cancel: Callable[[Operation, int], Awaitable[bool]]
) -> None:
    """Whatever the step, the next waiter gets the lock by a grant, and no key stays."""
    turns = completed = 0
    while completed < 3:  # how many turns an answer takes varies: thrice in a row
        world.round += 1
        operation, end = await scene(world)
        in_time = await cancel(operation, turns)
        completed = 0 if in_time else completed + 1
        await end()
        next_one = await world.lock(world.there).acquire(timeout=5)
        await next_one.release()
        turns += 1 if turns < 60 else turns // 20
    await nothing_left(world.redis, world.namespace)
    assert turns > 3


async def test_whoever_is_cancelled_by_one_that_the_same_read_woke_leaves_nothing(
    world: World,
) -> None:
    """Two replies arrive together, and the task that runs first cancels the other."""
    tasks: list[asyncio.Task[None]] = []

    async def visit(name: str, other: int) -> None:
        async with world.here.lock(name, ttl=TTL, namespace=world.namespace):
            tasks[other].cancel()

    for turn in range(20):
        # Both requests leave in one write, so their replies come in one read, as a rule.
        visits = [visit(f"{turn}:{which}", 1 - which) for which in range(2)]
        tasks[:] = map(asyncio.create_task, visits)
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert any(isinstance(end, asyncio.CancelledError) for end in ended)
    await nothing_left(world.redis, world.namespace)
