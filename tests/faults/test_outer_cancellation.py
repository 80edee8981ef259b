"""Loss and a cancellation from outside, in one turn of the loop: neither hides the other."""

# ruff: noqa: PT012 - how a whole block ends is what is tested

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import anyio
import pytest
import redis.asyncio as redis_asyncio

from aiodistlock import LeaseLost, LockClient
from tests.faults.world import client, lose, nothing_left


@pytest.fixture
async def here(redis_url: str) -> AsyncIterator[LockClient]:
    """A client."""
    made = client(redis_url)
    yield made
    await made.aclose()


async def plain() -> None:
    """Wait."""
    await asyncio.sleep(20)


async def grouped() -> None:
    """Wait in an asyncio task group with a child."""
    async with asyncio.TaskGroup() as group:
        group.create_task(plain())
        await plain()


async def scoped() -> None:
    """Wait in nested anyio scopes and a group with a child."""
    async with anyio.create_task_group() as group:
        group.start_soon(plain)
        with anyio.CancelScope():
            await plain()


async def tidy() -> None:
    """Await something on the way out, as a rollback does."""
    try:
        await plain()
    finally:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0)


BODIES = pytest.mark.parametrize("body", [plain, grouped, scoped, tidy], ids=lambda b: b.__name__)
ORDERS = pytest.mark.parametrize("order", ["loss first", "loss last", "loss a turn later"])
Body = Callable[[], Awaitable[None]]


class Scene:
    """A task in a block on a lock."""

    def __init__(self, here: LockClient, namespace: str, body: Body) -> None:
        self.lock = here.lock("n", namespace=namespace)
        self.body = body
        self.entered = asyncio.Event()

    async def block(self) -> None:
        """Enter the block, and go on after its end."""
        async with self.lock as self.lease:
            self.entered.set()
            await self.body()


async def in_order(order: str, cancel: Callable[[], object], scene: Scene) -> None:
    """Cancel, and lose the lease, in this order."""
    await scene.entered.wait()
    await asyncio.sleep(0)
    if order == "loss first":
        lose(scene.lease)
        cancel()
    else:
        cancel()
        if order == "loss a turn later":
            await asyncio.sleep(0)
        lose(scene.lease)


@BODIES
@ORDERS
async def test_task_cancel_together_with_the_loss_is_not_swallowed(
    here: LockClient, namespace: str, redis: redis_asyncio.Redis, order: str, body: Body
) -> None:
    """The task ends as cancelled, and nothing of the lock is left."""
    scene = Scene(here, namespace, body)
    task = asyncio.create_task(scene.block())
    await in_order(order, task.cancel, scene)
    await asyncio.wait([task])
    assert task.cancelled(), task
    await nothing_left(redis, namespace)


@BODIES
@ORDERS
async def test_an_outer_scope_cancelled_together_with_the_loss_ends_what_it_holds(
    here: LockClient, namespace: str, redis: redis_asyncio.Redis, order: str, body: Body
) -> None:
    """Nothing behind the block runs inside of the cancelled scope, and no error leaves it."""
    scene = Scene(here, namespace, body)
    scope = anyio.CancelScope()
    went_on = False

    async def outer() -> None:
        nonlocal went_on
        with scope:
            await scene.block()
            went_on = True

    task = asyncio.create_task(outer())
    await in_order(order, scope.cancel, scene)
    await task
    assert scope.cancelled_caught
    assert not went_on
    await nothing_left(redis, namespace)


@BODIES
@pytest.mark.parametrize("loss_first", [True, False])
@pytest.mark.parametrize("bound", ["asyncio.timeout", "anyio.fail_after", "asyncio.wait_for"])
async def test_a_timeout_that_expires_in_the_turn_of_the_loss_stays_a_timeout(
    here: LockClient, namespace: str, bound: str, loss_first: bool, body: Body
) -> None:
    """TimeoutError, whichever came first within the turn."""
    scene = Scene(here, namespace, body)
    loop = asyncio.get_running_loop()
    # asyncio.wait_for counts from here: a machine that stalls must not be late for it.
    due = loop.time() + 1.0
    outer: asyncio.Timeout | anyio.CancelScope | None = None

    async def bounded() -> None:
        nonlocal outer
        if bound == "asyncio.timeout":
            async with asyncio.timeout(None) as outer:
                await scene.block()
        elif bound == "anyio.fail_after":
            with anyio.fail_after(None) as outer:
                await scene.block()
        else:
            await asyncio.wait_for(scene.block(), 1.0)

    task = asyncio.create_task(bounded())
    await scene.entered.wait()
    if outer is not None:
        due = loop.time() + 0.1
    if isinstance(outer, asyncio.Timeout):
        outer.reschedule(due)
    elif outer is not None:
        outer.deadline = due
    loop.call_at(due - 0.001 if loss_first else due + 0.001, lose, scene.lease)
    # A stall, so that both timers are due in the same turn, in the order of their times.
    loop.call_at(due - 0.02, time.sleep, 0.03)
    with pytest.raises(TimeoutError):
        await task


@BODIES
async def test_the_loss_alone_is_lease_lost_and_leaves_no_cancellation_behind(
    here: LockClient, namespace: str, body: Body
) -> None:
    """The task can go on: it is not cancelled, and counts no cancellation."""
    scene = Scene(here, namespace, body)

    async def outer() -> int:
        with pytest.raises(LeaseLost):
            await scene.block()
        await asyncio.sleep(0)
        await asyncio.sleep(0.01)  # real time: a late cancellation would strike here
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    task = asyncio.create_task(outer())
    await scene.entered.wait()
    lose(scene.lease)
    assert await task == 0


@BODIES
async def test_a_cancellation_alone_is_no_loss(
    here: LockClient, namespace: str, redis: redis_asyncio.Redis, body: Body
) -> None:
    """The task ends as cancelled, its lease is released."""
    scene = Scene(here, namespace, body)
    task = asyncio.create_task(scene.block())
    await scene.entered.wait()
    task.cancel("from outside")
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert not getattr(caught.value, "__notes__", [])
    await nothing_left(redis, namespace)


async def test_a_cancellation_that_comes_while_the_release_of_a_lost_lease_is_confirmed(
    here: LockClient, namespace: str, redis: redis_asyncio.Redis
) -> None:
    """Every turn between the loss and the end of the block: the task ends as cancelled."""
    for turns in range(40):
        scene = Scene(here, namespace, plain)
        task = asyncio.create_task(scene.block())
        await scene.entered.wait()
        lose(scene.lease)
        for _ in range(turns):
            await asyncio.sleep(0)
        if not task.cancel():
            break
        await asyncio.wait([task])
        assert task.cancelled(), f"after {turns} turns"
    assert turns > 2
    with suppress(LeaseLost):
        await task
    await nothing_left(redis, namespace)


async def test_nested_blocks_end_from_the_lock_that_is_lost(
    here: LockClient, namespace: str, redis: redis_asyncio.Redis
) -> None:
    """Outer lost: both end, LeaseLost of the outer. Inner lost: only the inner one ends."""
    for lost in ("outer", "inner"):
        caught_inside: list[str] = []
        caught_outside: list[str] = []

        async def body(lost: str = lost, caught_inside: list[str] = caught_inside) -> None:
            async with here.lock("outer", namespace=namespace) as outer:
                try:
                    async with here.lock("inner", namespace=namespace) as inner:
                        lose({"outer": outer, "inner": inner}[lost])
                        await plain()
                except LeaseLost as error:
                    caught_inside.append(error.name)
                await asyncio.sleep(0)

        try:
            await body()
        except LeaseLost as error:
            caught_outside.append(error.name)
        assert caught_inside + caught_outside == [lost]
        assert bool(caught_inside) == (lost == "inner")
    await nothing_left(redis, namespace)


@pytest.mark.parametrize("lost_before", [True, False], ids=["loss first", "error first"])
async def test_the_bodys_own_error_passes_with_the_loss_as_a_note(
    here: LockClient, namespace: str, lost_before: bool
) -> None:
    """What the body raised is what the caller must handle; the note tells the rest."""
    lock = here.lock("n", namespace=namespace)
    with pytest.raises(KeyError) as caught:
        async with lock as lease:
            if lost_before:
                lose(lease)
                with suppress(asyncio.CancelledError):
                    await plain()
                raise KeyError("mine")
            try:
                raise KeyError("mine")
            finally:
                lose(lease)
    assert any("lost" in note for note in caught.value.__notes__)


async def test_a_group_of_errors_of_the_body_passes_with_the_loss_as_a_note(
    here: LockClient, namespace: str
) -> None:
    """Children that fail as they are cancelled: their errors are not masked."""

    async def failing() -> None:
        try:
            await plain()
        except asyncio.CancelledError:
            raise KeyError("mine") from None

    with pytest.raises(ExceptionGroup) as caught:
        async with here.lock("n", namespace=namespace) as lease, asyncio.TaskGroup() as group:
            group.create_task(failing())
            await asyncio.sleep(0)
            lose(lease)
            await plain()
    assert caught.value.subgroup(KeyError) is not None
    assert any("lost" in note for note in caught.value.__notes__)
