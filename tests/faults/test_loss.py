"""Loss by silence: the body ends by the lease's deadline, before anybody else gets in."""

# ruff: noqa: PT012 - how a whole block ends is what is tested

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import pairwise

import anyio
import pytest
import redis.asyncio as redis_asyncio

from aiodistlock import LeaseLost, LockClient
from aiodistlock.testing.embedded import EmbeddedRedis
from tests.faults.world import EAGER, client, nothing_left
from tests.proxy import ChaosProxy

TTL = 1.2
"""Such that a machine that stalls for half a second costs no lease before its time."""

GRACE = 1.0
"""Seconds after the deadline that a busy machine may give to others."""


@pytest.fixture(params=[3, 2], ids=["resp3", "resp2"])
async def here(
    embedded_redis: EmbeddedRedis, request: pytest.FixtureRequest
) -> AsyncIterator[LockClient]:
    """A client of a server of the test's own, warm."""
    made = client(embedded_redis.url, protocol=request.param)
    await (await made.lock("warm").acquire()).release()
    yield made
    if embedded_redis.is_running:
        embedded_redis.thaw()
    await made.aclose()


class Ended:
    """Notes when a body ended, and at most how long its lease was valid then."""

    def __init__(self) -> None:
        self.at = self.deadline = 0.0

    async def run(self, made: LockClient, body: Callable[[], Awaitable[object]]) -> None:
        """Hold a lock for a body that must end by the loss of the lease."""
        lock = made.lock("n", ttl=TTL, backoff=EAGER)
        with pytest.raises(LeaseLost) as caught:
            async with lock as lease:
                try:
                    await body()
                finally:
                    with pytest.raises(LeaseLost):
                        lease.check()
                    self.at = time.monotonic()
                    self.deadline = self.at + lease._process_lease.deadline
                    self.deadline -= lease._client.clock()
        assert caught.value.fencing_token == lease.fencing_token
        assert not lease.is_held


async def forever() -> None:
    """Wait as a body waits for something that takes long."""
    await asyncio.sleep(20)


async def a_child_task() -> None:
    """Wait in a child of an asyncio task group."""
    async with asyncio.TaskGroup() as group:
        group.create_task(forever())
        await forever()


async def an_anyio_child() -> None:
    """Wait in children of nested anyio groups and scopes."""
    with anyio.CancelScope(), anyio.fail_after(15):
        async with anyio.create_task_group() as group:
            group.start_soon(forever)
            with anyio.move_on_after(15):
                await forever()


async def an_asyncio_timeout() -> None:
    """Wait below asyncio's own bounds."""
    async with asyncio.timeout(15):
        await asyncio.wait_for(forever(), 15)


async def a_shielded_task() -> None:
    """Wait for a task that asyncio shields: the wait ends, the task does not."""
    task = asyncio.create_task(forever())
    try:
        await asyncio.shield(task)
    finally:
        assert not task.done()
        task.cancel()


async def swallowing() -> None:
    """Swallow the cancellation a few times, as careless code does."""
    for _ in range(5):
        try:
            await forever()
        except asyncio.CancelledError:
            continue


BODIES = [forever, a_child_task, an_anyio_child, an_asyncio_timeout, a_shielded_task, swallowing]


@pytest.mark.parametrize("here", [3], ids=["resp3"], indirect=True)
@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
async def test_a_frozen_server_cancels_the_body_by_the_deadline(
    here: LockClient, embedded_redis: EmbeddedRedis, body: Callable[[], Awaitable[object]]
) -> None:
    """Neither before two thirds of the ttl, nor later than the deadline."""
    ended = Ended()

    async def frozen() -> None:
        embedded_redis.freeze()
        await body()

    began = time.monotonic()
    await ended.run(here, frozen)
    assert ended.at - began > TTL * 0.6
    assert ended.at <= ended.deadline + GRACE
    # The block itself does not wait much longer for the frozen server.
    assert time.monotonic() - ended.at < 3.0


async def test_a_body_that_awaits_redis_py_on_a_frozen_server_ends_too(
    here: LockClient, embedded_redis: EmbeddedRedis
) -> None:
    """redis-py's wait_for swallows a single cancel on Python 3.11 (CPython #86296)."""
    ended = Ended()
    for _ in range(2):
        async with redis_asyncio.from_url(embedded_redis.url, socket_timeout=15) as user:
            await user.set("x", 1)

            async def body(user: redis_asyncio.Redis = user) -> None:
                embedded_redis.freeze()
                await asyncio.gather(*(user.get("x") for _ in range(3)))
                while True:
                    await user.set("x", b"x" * 100_000)

            await ended.run(here, body)
            assert ended.at <= ended.deadline + GRACE
            embedded_redis.thaw()


@pytest.mark.parametrize("ttl", [0.3, 0.6])
async def test_the_body_behind_a_black_hole_ends_before_anybody_else_gets_in(
    proxy: ChaosProxy, redis_url: str, redis: redis_asyncio.Redis, namespace: str, ttl: float
) -> None:
    """Three holders one after the other, each cut off: no two bodies overlap."""
    bodies: list[tuple[float, float]] = []
    entered = asyncio.Event()

    async def hold(made: LockClient, *, hole: bool) -> None:
        lasts = ttl if hole else 10.0
        async with made.lock("n", ttl=lasts, namespace=namespace, backoff=EAGER):
            began = time.monotonic()
            try:
                if hole:
                    proxy.black_hole()
                    entered.set()
                    await forever()
            finally:
                bodies.append((began, time.monotonic()))

    async with client(redis_url) as there:
        for _ in range(2):
            await proxy.accept()
            entered.clear()
            here = client(proxy.url)
            holding = asyncio.create_task(hold(here, hole=True))
            await entered.wait()
            await hold(there, hole=False)
            with pytest.raises(LeaseLost):
                await holding
            await here.aclose()
    assert len(bodies) == 4
    bodies.sort()
    assert all(first[1] <= second[0] for first, second in pairwise(bodies))
    await nothing_left(redis, namespace)


@pytest.mark.parametrize("here", [3], ids=["resp3"], indirect=True)
@pytest.mark.parametrize("who", ["a callback", "another task", "the body"])
async def test_after_a_stall_of_the_loop_the_body_takes_two_steps_at_most(
    here: LockClient, who: str
) -> None:
    """The loop stood still beyond the deadline: nothing could be renewed, or cancelled."""
    steps_after = 0
    stalled = False

    def stall() -> None:
        nonlocal stalled
        time.sleep(TTL * 1.5)  # the stall is what is tested
        stalled = True

    async def stall_as_task() -> None:
        stall()

    async def body() -> None:
        nonlocal steps_after
        if who == "a callback":
            asyncio.get_running_loop().call_soon(stall)
        elif who == "another task":
            asyncio.get_running_loop().create_task(stall_as_task())
        else:
            stall()
        while True:
            steps_after += stalled
            await asyncio.sleep(0)

    await Ended().run(here, body)
    assert stalled
    assert steps_after <= 2


async def test_on_lost_signal_tells_and_cancels_nobody(
    here: LockClient, embedded_redis: EmbeddedRedis
) -> None:
    """wait_lost wakes up by the deadline; the block raises LeaseLost when the body ends."""
    lock = here.lock("n", ttl=TTL, on_lost="signal")
    done = False
    began = time.monotonic()
    with pytest.raises(LeaseLost):
        async with lock as lease:
            embedded_redis.freeze()
            frozen = time.monotonic()
            assert await lease.wait_lost()
            assert began + TTL * 0.6 < time.monotonic() < frozen + TTL + GRACE
            assert not lease.is_held
            embedded_redis.thaw()
            await asyncio.sleep(0)
            done = True
    assert done


async def test_max_hold_ends_a_lease_that_could_be_renewed(here: LockClient) -> None:
    """The body is cancelled when it is over, and the next waiter gets in at once."""
    lock = here.lock("n", ttl=20.0, max_hold=0.3)
    began = time.monotonic()
    with pytest.raises(LeaseLost, match="max_hold"):
        async with lock:
            next_one = asyncio.create_task(here.lock("n", ttl=20.0).acquire())
            await forever()
    assert 0.25 < time.monotonic() - began < 3.0
    await (await asyncio.wait_for(next_one, 5)).release()


async def test_without_renewal_the_lease_ends_with_its_ttl_unless_extended(
    here: LockClient,
) -> None:
    """auto_renew=False: cancelled by the deadline that the last extension set."""
    lock = here.lock("n", ttl=1.0, auto_renew=False)
    for extension in (None, 2.0):
        began = time.monotonic()
        with pytest.raises(LeaseLost):
            async with lock as lease:
                if extension is not None:
                    await lease.extend(extension)
                await forever()
        assert -0.05 < time.monotonic() - began - (extension or 1.0) < 0.9


async def test_an_outer_timeout_ends_the_block_soon_though_the_server_is_frozen(
    here: LockClient, embedded_redis: EmbeddedRedis
) -> None:
    """The release cannot be confirmed: nobody waits a ttl for that."""
    for bound in (asyncio.timeout(0.2), anyio.fail_after(0.2)):
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            if isinstance(bound, asyncio.Timeout):
                async with bound, here.lock("n", ttl=20.0):
                    embedded_redis.freeze()
                    await forever()
            else:
                with bound:
                    async with here.lock("n", ttl=20.0):
                        embedded_redis.freeze()
                        await forever()
        assert time.monotonic() - began < 5.0
        embedded_redis.thaw()
