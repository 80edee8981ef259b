"""How the loss of a lease gets to its body: as soon as it can, for nothing until then."""

# ruff: noqa: PT012 - how a whole block ends is what is tested

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import anyio
import anyio.to_thread
import pytest

from aiodistlock import AsyncLock, LeaseLost, LockClient
from aiodistlock.leases import await_chain, cancellation
from aiodistlock.leases.cancellation import AT_ONCE, MAX_PAUSE, Cancellation
from tests.faults.world import lose

LONG = 30.0
"""Seconds that no test waits for."""


@pytest.fixture
async def lock() -> AsyncIterator[AsyncLock]:
    """A lock in memory: what Redis says is of no concern here."""
    async with LockClient.in_memory() as client:
        yield client.lock("n")


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The instants at which somebody looked whether the loss can be delivered."""
    found: list[float] = []
    look = Cancellation._look

    def noted(self: Cancellation, *over: Any) -> None:
        found.append(asyncio.get_running_loop().time())
        look(self, *over)

    monkeypatch.setattr(Cancellation, "_look", noted)
    return found


async def turns(count: int) -> None:
    """Let the loop turn, in the next task's time."""
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("style", ["async with lock", "lock.hold()"])
async def test_a_shield_costs_nothing_and_delays_the_loss_by_no_step(
    lock: AsyncLock, looks: list[float], style: str
) -> None:
    """Nobody looks while the body waits behind a shield; its next await is cancelled."""
    over = asyncio.Event()
    steps: list[str] = []

    async def body() -> None:
        async with lock if style == "async with lock" else lock.hold() as lease:
            with anyio.CancelScope(shield=True):
                lose(lease)
                await over.wait()
                await asyncio.sleep(0)
                steps.append("shielded")
            await asyncio.sleep(0)
            steps.append("behind")

    task = asyncio.create_task(body())
    await turns(10)
    before = len(looks)
    await turns(200)
    await asyncio.sleep(0.05)  # real time: timers would run out
    assert 1 <= before == len(looks) <= 5
    over.set()
    with pytest.raises(LeaseLost):
        await task
    assert steps == ["shielded"]


async def test_a_body_in_a_thread_costs_nothing_and_ends_with_the_thread(
    lock: AsyncLock, looks: list[float]
) -> None:
    """As a web framework runs a plain function: shielded until the thread is done."""
    over = threading.Event()
    steps: list[str] = []

    async def body() -> None:
        async with lock as lease:
            asyncio.get_running_loop().call_soon(lose, lease)
            await anyio.to_thread.run_sync(over.wait, LONG)
            steps.append("thread done")
            await asyncio.sleep(0)
            steps.append("behind")

    task = asyncio.create_task(body())
    await turns(20)
    before = len(looks)
    await turns(200)
    await asyncio.sleep(0.05)  # real time: timers would run out
    assert 1 <= before == len(looks) <= 5
    over.set()
    with pytest.raises(LeaseLost):
        await task
    assert len(looks) <= before + 5
    assert "behind" not in steps


async def test_a_task_that_ended_is_looked_for_once(lock: AsyncLock, looks: list[float]) -> None:
    """It entered the block, and has gone: there is nobody to cancel."""
    async with AsyncExitStack() as stack:
        lease = await asyncio.create_task(stack.enter_async_context(lock.hold()))
        with pytest.raises(LeaseLost):
            lose(lease)
            await turns(200)
            assert len(looks) == 1
            await stack.aclose()


async def test_a_body_that_swallows_every_cancellation_gets_fewer_and_fewer(
    lock: AsyncLock,
) -> None:
    """At first in each turn of the loop, then after pauses."""
    swallowed = 0
    with pytest.raises(LeaseLost):
        async with lock as lease:
            lose(lease)
            loop = asyncio.get_running_loop()
            ends = loop.time() + 0.3  # real time: pauses are what is tested
            while loop.time() < ends:
                try:
                    await asyncio.sleep(LONG)
                except asyncio.CancelledError:
                    swallowed += 1
                    if swallowed <= AT_ONCE:
                        ends = loop.time() + 0.3
    assert AT_ONCE < swallowed <= AT_ONCE + 10 + 0.3 / MAX_PAUSE


class Connection:
    """Something that a body has to close."""

    closed = 0

    async def close(self) -> None:
        """Say good-bye, in three round trips."""
        for _ in range(3):
            await asyncio.sleep(0.01)  # real time: a round trip
        self.closed += 1

    async def __aenter__(self) -> None:
        """Open."""

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        await self.close()


async def finally_(connection: Connection) -> None:
    """Close in ``finally``."""
    try:
        await asyncio.sleep(LONG)
    finally:
        await connection.close()


async def except_(connection: Connection) -> None:
    """Close in ``except``."""
    try:
        await asyncio.sleep(LONG)
    except asyncio.CancelledError:
        await connection.close()
        raise


async def context_manager(connection: Connection) -> None:
    """Close as a context manager does, around another one."""
    async with connection, Connection():
        await asyncio.sleep(LONG)


async def generator_of_a_manager(connection: Connection) -> None:
    """Close in a generator."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[None]:
        try:
            yield
        finally:
            await connection.close()

    async with opened():
        await asyncio.sleep(LONG)


async def another_error(connection: Connection) -> None:
    """Close while the error passes that the cancellation became."""
    with suppress(KeyError):
        try:
            try:
                await asyncio.sleep(LONG)
            except asyncio.CancelledError:
                raise KeyError("mine") from None
        finally:
            await connection.close()
    await asyncio.sleep(LONG)


async def task_(connection: Connection) -> None:
    """Close in a task that is awaited."""
    await asyncio.create_task(finally_(connection))


async def gathered(connection: Connection) -> None:
    """Close in the one task that is gathered."""
    await asyncio.gather(finally_(connection))


async def grouped(connection: Connection) -> None:
    """Close in a child."""
    async with asyncio.TaskGroup() as group:
        group.create_task(finally_(connection))


async def anyio_grouped(connection: Connection) -> None:
    """Close in a child, shielded as anyio wants it."""

    async def child() -> None:
        try:
            await asyncio.sleep(LONG)
        finally:
            with anyio.CancelScope(shield=True):
                await connection.close()

    async with anyio.create_task_group() as group:
        group.start_soon(child)


async def waited_for(connection: Connection) -> None:
    """Close below ``asyncio.wait_for``."""
    await asyncio.wait_for(finally_(connection), LONG)


async def waited_for_twice(connection: Connection) -> None:
    """Close below two of them."""
    await asyncio.wait_for(waited_for(connection), LONG)


async def timed(connection: Connection) -> None:
    """Close below ``asyncio.timeout``."""
    async with asyncio.timeout(LONG):
        await finally_(connection)


CLEANUPS = [
    *(finally_, except_, context_manager, generator_of_a_manager, another_error),
    *(task_, gathered, grouped, anyio_grouped, waited_for, waited_for_twice, timed),
]


@pytest.mark.parametrize("body", CLEANUPS, ids=lambda body: body.__name__.strip("_"))
async def test_one_clean_up_gets_through(
    lock: AsyncLock, body: Callable[[Connection], Awaitable[None]]
) -> None:
    """Its awaits are left alone, wherever in the body it is, and the block ends behind it."""
    connection = Connection()
    with anyio.fail_after(10), pytest.raises(LeaseLost):
        async with lock as lease:
            asyncio.get_running_loop().call_later(0.01, lose, lease)
            await body(connection)
    assert connection.closed == 1


@pytest.mark.parametrize(
    "body", [finally_, task_, waited_for, waited_for_twice], ids=lambda b: b.__name__.strip("_")
)
async def test_a_clean_up_that_hangs_is_cancelled_when_its_time_is_over(
    lock: AsyncLock, monkeypatch: pytest.MonkeyPatch, body: Callable[[Any], Awaitable[None]]
) -> None:
    """And nothing of the body runs any more when the block has raised."""
    monkeypatch.setattr(cancellation, "CLEANUP_WITHIN", 0.05)
    ended: list[str] = []

    class Hanging(Connection):
        async def close(self) -> None:
            try:
                await asyncio.sleep(LONG)
            finally:
                ended.append("hung")

    with anyio.fail_after(10), pytest.raises(LeaseLost):
        async with lock as lease:
            asyncio.get_running_loop().call_later(0.01, lose, lease)
            await body(Hanging())
    assert ended == ["hung"]


@pytest.mark.parametrize("swallows", [0, 1, 3])
async def test_nothing_of_the_body_runs_when_the_block_has_raised(
    lock: AsyncLock, swallows: int
) -> None:
    """asyncio.wait_for waits for the end of what it cancelled, also on Python 3.11."""
    steps: list[str] = []

    async def inner() -> None:
        for _ in range(swallows):
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(LONG)
        try:
            await asyncio.sleep(LONG)
        finally:
            for _ in range(5):
                await asyncio.sleep(0.005)  # real time: a round trip
                steps.append("step")

    with anyio.fail_after(10), pytest.raises(LeaseLost):
        async with lock as lease:
            asyncio.get_running_loop().call_later(0.01, lose, lease)
            await asyncio.wait_for(inner(), LONG)
    ended = len(steps)
    assert ended == 5
    await asyncio.sleep(0.05)  # real time: what runs on would take a step
    assert len(steps) == ended


async def test_a_timeout_that_ends_what_it_bounds_is_not_interrupted(lock: AsyncLock) -> None:
    """Loss while asyncio.wait_for, timed out, waits for the clean-up of what it bounds."""
    connection = Connection()
    with anyio.fail_after(10), pytest.raises(TimeoutError) as caught:
        async with lock as lease:
            asyncio.get_running_loop().call_later(0.02, lose, lease)
            await asyncio.wait_for(finally_(connection), 0.01)
    assert connection.closed == 1
    assert any("lost" in note for note in caught.value.__notes__)


async def test_a_block_in_a_clean_up_is_cancelled_as_any(
    lock: AsyncLock, looks: list[float]
) -> None:
    """What is on its way out around the block is no clean-up of its body."""

    async def undo() -> None:
        async with lock as lease:
            lose(lease)
            for _ in range(2):
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(LONG)
            await asyncio.sleep(LONG)

    async def cancelled() -> None:
        try:
            await asyncio.sleep(LONG)
        finally:
            with pytest.raises(LeaseLost):
                await undo()

    task = asyncio.create_task(cancelled())
    await turns(3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert looks[-1] - looks[0] < cancellation.CLEANUP_WITHIN / 2


async def test_without_asyncios_privates_the_loss_is_delivered_all_the_same(
    lock: AsyncLock, looks: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a task waits for is a private of asyncio's: without it, looks are taken by time."""
    monkeypatch.setattr(await_chain, "_AWAITED", "gone")
    monkeypatch.setattr(await_chain, "_MUST_CANCEL", "gone")
    steps: list[str] = []
    with anyio.fail_after(10), pytest.raises(LeaseLost):
        async with lock as lease:
            lose(lease)
            with anyio.CancelScope(shield=True):
                await asyncio.sleep(0.2)  # real time: looks are taken by it
                steps.append("shielded")
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(LONG)
            await asyncio.sleep(LONG)
    assert steps == ["shielded"]
    assert len(looks) < AT_ONCE * 3
