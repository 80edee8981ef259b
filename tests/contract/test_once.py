"""What is done once a window: wherever locks are kept, and by several processes."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest

from aiodistlock import (
    AcquireTimeout,
    AsyncLock,
    LeaseLost,
    LockClient,
    LockError,
    Once,
    Ran,
    Run,
    Skipped,
    StoreUnavailable,
)
from tests.contract.world import ORDERED, World, queued
from tests.faults.world import lose

pytestmark = pytest.mark.parametrize("world", ORDERED, indirect=True)

AT = datetime(2026, 3, 1, 6, 0, tzinfo=UTC)
SOON = 20.0
"""Longer than anything here takes, seconds."""

Make = Callable[..., Once]


@pytest.fixture
async def job(world: World, processes: list[LockClient]) -> AsyncIterator[Make]:
    """Make the same job in a process; its mark and name are gone afterwards."""
    made: list[Once] = []

    def make(client: LockClient, **options: Any) -> Once:
        made.append(client.once("job", namespace=world.namespace, **options))
        return made[-1]

    yield make
    source: Any = processes[0]._source
    if made and hasattr(source, "delete"):
        await source.delete(made[0]._keys.done, made[0]._keys.key)


async def noted(run: Run) -> tuple[datetime, int]:
    """Be done at once."""
    run.check()
    return run.window, run.fencing_token


def held_by(log: list[str], gate: asyncio.Event) -> Callable[[Run], Coroutine[Any, Any, str]]:
    """Return a job that says when it begins, and ends when it is let."""

    async def function(_run: Run) -> str:
        log.append("begun")
        await gate.wait()
        return "mine"

    return function


async def begun(log: list[str]) -> None:
    """Wait until a job has begun."""
    with anyio.fail_after(SOON):
        while not log:
            await asyncio.sleep(0)


@pytest.mark.needs_queue
async def test_one_of_all_runs_and_the_others_are_told(
    world: World, processes: list[LockClient], job: Make
) -> None:
    """Those that come while it runs wait; all are told by whom it was done, and when."""
    log: list[str] = []
    gate = asyncio.Event()
    first = asyncio.create_task(job(processes[0]).run(held_by(log, gate), window=AT))
    await begun(log)
    # Also in its own process: nothing is handed over in memory.
    others = [
        asyncio.create_task(job(each).run(noted, window=AT)) for each in (*processes, processes[0])
    ]
    lock = world.lock(processes[0], "job")
    holder = (await lock.inspect()).holder
    with anyio.fail_after(SOON):
        await queued(lock, len(others))
        gate.set()
        assert await first == Ran("mine")
        outcomes = [*await asyncio.gather(*others), await job(processes[1]).run(noted, window=AT)]
    for outcome in outcomes:
        assert isinstance(outcome, Skipped)
        assert (outcome.reason, outcome.by) == ("done", holder)
        assert outcome.at is not None
        assert abs(outcome.at - datetime.now(UTC)) < timedelta(minutes=5)


async def test_windows_are_done_in_order(first: LockClient, second: LockClient, job: Make) -> None:
    """At or below the last one there is nothing to do; above it there is, under a higher fence."""
    windows = [AT, AT + timedelta(seconds=1), AT + timedelta(days=1)]
    fences = []
    for client, window in zip((first, second, first), windows, strict=True):
        outcome = await job(client).run(noted, window=window)
        assert isinstance(outcome, Ran)
        assert outcome.value[0] == window
        fences.append(outcome.value[1])
        for below in (window, window - timedelta(microseconds=1), AT):
            refused = await job(second).run(noted, window=below)
            assert isinstance(refused, Skipped)
            assert refused.reason == "done"
    assert fences == sorted(set(fences))


async def test_the_servers_clock_tells_the_window(
    first: LockClient, second: LockClient, job: Make
) -> None:
    """Its beginning, counted from 1970; another length of windows goes on from there."""
    daily = await job(first, every=timedelta(days=1)).run(noted)
    assert isinstance(daily, Ran)
    assert (daily.value[0] - datetime(1970, 1, 1, tzinfo=UTC)) % timedelta(days=1) == timedelta(0)
    yearly = await job(second, every=timedelta(days=360)).run(noted)
    assert isinstance(yearly, Skipped), "its window begins before the one that is done"


async def test_an_error_leaves_no_mark(first: LockClient, second: LockClient, job: Make) -> None:
    """It passes; the window is free for the next one at once."""

    async def failing(_run: Run) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await job(first).run(failing, window=AT)
    with anyio.fail_after(SOON):
        assert isinstance(await job(second, ttl=3600.0).run(noted, window=AT), Ran)


async def test_a_lost_lease_leaves_no_mark(
    first: LockClient, second: LockClient, job: Make
) -> None:
    """The function is cancelled, ``LeaseLost`` raised, and another one does the window."""
    left = []

    async def losing(run: Run) -> None:
        lose(run._lease)
        try:
            await asyncio.sleep(3600.0)
        finally:
            left.append(True)

    with anyio.fail_after(SOON):
        with pytest.raises(LeaseLost):
            await job(first).run(losing, window=AT)
        assert left
        assert isinstance(await job(second).run(noted, window=AT), Ran)


async def test_a_loss_that_the_function_does_not_notice_leaves_no_mark(
    first: LockClient, second: LockClient, job: Make
) -> None:
    """It returns in the same turn, or goes on under ``on_lost="signal"``."""

    async def losing(run: Run) -> int:
        lose(run._lease)
        return 1

    for options in ({}, {"on_lost": "signal"}):
        with anyio.fail_after(SOON), pytest.raises(LeaseLost):
            await job(first, **options).run(losing, window=AT)
    with anyio.fail_after(SOON):
        assert isinstance(await job(second).run(noted, window=AT), Ran)


async def test_nobody_begins_under_a_lease_that_is_over(
    first: LockClient, second: LockClient, job: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not if it is lost in the very turn in which Redis' last answer is read."""
    ask, asked, began = Once._ask, [], []

    async def losing(self: Once, within: float | None) -> Any:
        answered = await ask(self, within)
        asked.append(True)
        if len(asked) == 2:
            holder: Any = first._holders[self._keys.key].holder
            lose(holder())
        return answered

    async def begin(_run: Run) -> None:
        began.append(True)

    monkeypatch.setattr(Once, "_ask", losing)
    with anyio.fail_after(SOON):
        with pytest.raises(LeaseLost):
            await job(first).run(begin, window=AT)
        assert not began
        assert isinstance(await job(second).run(noted, window=AT), Ran)


async def test_what_is_begun_is_not_begun_again(
    first: LockClient, second: LockClient, job: Make
) -> None:
    """With ``on_crash="skip"``: not after an error either; what ends is done."""

    async def failing(_run: Run) -> None:
        raise KeyError("mine")

    once = job(first, on_crash="skip")
    with pytest.raises(KeyError, match="mine"):
        await once.run(failing, window=AT)
    for client, on_crash in ((first, "skip"), (second, "retry")):
        outcome = await job(client, on_crash=on_crash).run(noted, window=AT)
        assert isinstance(outcome, Skipped)
        assert outcome.reason == "begun"
    later = AT + timedelta(hours=1)
    assert isinstance(await once.run(noted, window=later), Ran)
    outcome = await job(second, on_crash="skip").run(noted, window=later)
    assert isinstance(outcome, Skipped)
    assert outcome.reason == "done"


async def test_who_waited_for_what_is_begun_at_most_once_is_told(
    first: LockClient, second: LockClient, job: Make
) -> None:
    """Also where both have found no mark before they asked for the lock."""
    log: list[str] = []
    gate = asyncio.Event()
    lock = job(first)._lock
    with anyio.fail_after(SOON):
        lease = await lock.acquire()
        tasks = [
            asyncio.create_task(job(client, on_crash="skip").run(held_by(log, gate), window=AT))
            for client in (first, second)
        ]
        await asyncio.sleep(0.1)  # real time: both have looked, and wait; if not it is no matter
        await lease.release()
        gate.set()
        outcomes = await asyncio.gather(*tasks)
    assert log == ["begun"]
    assert {type(each) for each in outcomes} == {Ran, Skipped}


async def test_the_name_is_kept_for_the_time_that_a_job_is_to_take(
    world: World, first: LockClient, second: LockClient, job: Make
) -> None:
    """Nobody waits, all are told; a lock of that name waits until then."""
    once = job(first, at_least=3600.0)
    assert isinstance(await once.run(noted), Ran)
    lock = world.lock(first, "job")
    holders = set()
    for client in (first, second):
        outcome = await job(client, at_least=3600.0).run(noted)
        assert isinstance(outcome, Skipped)
        assert outcome.reason == "done"
        assert outcome.at is not None
        holders.add(f"kept:{outcome.by}")
        # Ours by its beginning only: who waits in the process that kept it leaves it alone.
        with pytest.raises(AcquireTimeout) as caught:
            await world.lock(client, "job", timeout=0.3).acquire()
        if caught.value.holder is not None:  # on a busy machine nobody may have said
            assert f"kept by {outcome.by} for" in str(caught.value)
            assert "renew" not in str(caught.value)
    info = await lock.inspect()
    assert {info.holder} == holders
    assert info.ttl is not None
    assert 3000.0 < info.ttl <= 3600.0


async def test_a_name_is_free_when_it_was_kept_long_enough(
    first: LockClient, second: LockClient, job: Make
) -> None:
    """From the start on; what takes longer, or fails, keeps nothing."""
    with anyio.fail_after(SOON):
        assert isinstance(await job(first, at_least=0.3).run(noted), Ran)
        while isinstance(await job(second, at_least=0.3).run(noted), Skipped):
            await asyncio.sleep(0.01)

    async def slow(_run: Run) -> None:
        await asyncio.sleep(0.06)  # real time: longer than the name is kept

    with anyio.fail_after(SOON):
        while isinstance(await job(first, at_least=0.05).run(slow), Skipped):
            await asyncio.sleep(0.01)
        assert isinstance(await job(second, at_least=3600.0).run(slow), Ran)


async def test_who_does_not_wait_is_told_who_holds_the_name(
    world: World, first: LockClient, second: LockClient, job: Make
) -> None:
    """With ``timeout=0`` and in time; a window that was done meanwhile is."""
    async with world.lock(first, "job") as lease:
        for timeout in (0, 0.2):
            outcome = None
            while outcome is None:
                # On a busy machine Redis' first answer may take longer than that.
                with suppress(AcquireTimeout, StoreUnavailable):
                    outcome = await job(second, timeout=timeout).run(noted, window=AT)
            assert outcome == Skipped("held", lease.token, None)
        assert isinstance(await job(second, at_least=1.0).run(noted), Skipped)


async def test_who_is_late_asks_for_no_lock(
    world: World, first: LockClient, second: LockClient, job: Make
) -> None:
    """It is told at once, whoever holds the name by then."""
    assert isinstance(await job(first).run(noted, window=AT), Ran)
    async with world.lock(first, "job"):
        with anyio.fail_after(SOON):
            outcome = await job(second).run(noted, window=AT)
    assert isinstance(outcome, Skipped)
    assert outcome.reason == "done"


async def test_a_task_that_holds_the_name_is_told(first: LockClient, job: Make) -> None:
    """It would wait for itself."""

    async def again(_run: Run) -> None:
        await job(first).run(noted, window=AT)

    with anyio.fail_after(SOON), pytest.raises(LockError, match="holds the lock already"):
        await job(first).run(again, window=AT)


async def test_a_decorated_function_gets_its_run(
    first: LockClient, second: LockClient, job: Make
) -> None:
    """In front of its arguments; a call returns ``None`` where there is nothing to do."""

    @job(first, every=timedelta(days=360))
    async def here(run: Run, amount: int, *, unit: str) -> str:
        """Report."""
        run.check()
        return f"{amount} {unit}"

    @job(second, every=timedelta(days=360))
    async def there(_run: Run) -> str:
        raise AssertionError("it was done")

    assert (here.__name__, here.__doc__) == ("here", "Report.")
    assert await here(3, unit="EUR") == "3 EUR"
    assert await here(3, unit="EUR") is None
    assert await there() is None


async def test_a_closed_client_is_told(first: LockClient, job: Make) -> None:
    """As for a lock."""
    once = job(first)
    await first.aclose()
    with pytest.raises(LockError, match="closed"):
        await once.run(noted, window=AT)


async def test_a_lock_of_the_name_excludes_the_job(
    world: World, first: LockClient, second: LockClient, job: Make
) -> None:
    """And the job the lock: an operator may hold the name, to have nothing run."""
    lock: AsyncLock = world.lock(first, "job")
    lease = await lock.acquire()
    waiting = asyncio.create_task(job(second).run(noted, window=AT))
    with anyio.fail_after(SOON):
        await asyncio.wait([waiting], timeout=0.2)
        assert not waiting.done()
        await lease.release()
        assert isinstance(await waiting, Ran)
