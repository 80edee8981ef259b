"""Time that a test turns: what locks in memory do by it."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from aiodistlock import (
    Abandoned,
    Acquired,
    AcquireTimeout,
    Lease,
    LeaseLost,
    LockClient,
    LockEvent,
    Lost,
    Released,
)
from aiodistlock.testing import ManualClock

HOUR = 3600.0


@pytest.fixture
def clock() -> ManualClock:
    """A clock that stands still."""
    return ManualClock()


@pytest.fixture
async def ours(clock: ManualClock) -> AsyncIterator[LockClient]:
    """A client that goes by the clock."""
    async with LockClient.in_memory(clock=clock) as client:
        yield client


@pytest.fixture
async def theirs(ours: LockClient) -> AsyncIterator[LockClient]:
    """Another process beside it; it goes by the same clock."""
    async with LockClient.in_memory(share=ours) as client:
        yield client


async def test_a_lease_that_is_not_renewed_ends_when_its_ttl_is_over(
    clock: ManualClock, ours: LockClient, theirs: LockClient
) -> None:
    """Its holder's deadline comes a drift before its end at the server, neither early."""
    lease = await theirs.lock("wallet", ttl=10.0, auto_renew=False).acquire()
    lock = ours.lock("wallet")
    await clock.advance(9.88)
    assert lease.validity > 0
    await clock.advance(0.02)
    assert lease.validity == 0
    assert await lock.try_acquire() is None
    await clock.advance(0.11)
    async with lock.hold(timeout=0) as next_lease:
        assert next_lease.fencing_token > lease.fencing_token


async def test_a_lease_is_renewed_for_as_long_as_the_clock_is_turned(
    clock: ManualClock, ours: LockClient, theirs: LockClient
) -> None:
    """The watchdog ticks by the clock, so an hour of 10 s leases is one lease, at once."""
    began = time.monotonic()
    async with ours.lock("wallet", ttl=10.0) as lease:
        await clock.advance(HOUR)
        assert lease.validity > 5.0
        assert await theirs.lock("wallet").try_acquire() is None
    # Generous: it takes 0.3 s.
    assert time.monotonic() - began < 10


async def test_a_stall_is_a_loss(clock: ManualClock, ours: LockClient) -> None:
    """A process that stood still for a ttl has renewed nothing: its bodies are cancelled."""
    reached = asyncio.Event()

    async def hold() -> None:
        async with ours.lock("wallet", ttl=10.0):
            reached.set()
            await asyncio.sleep(HOUR)

    task = asyncio.create_task(hold())
    await reached.wait()
    await clock.stall(9.0)
    assert not task.done()
    await clock.stall(10.0)
    with pytest.raises(LeaseLost, match="not renewed before its deadline"):
        await task


async def test_a_waiter_gets_the_lock_of_a_dead_holder(
    clock: ManualClock, ours: LockClient, theirs: LockClient
) -> None:
    """A waiter's timers go by the clock: it asks again when the holder's ttl is over."""
    _lease = await theirs.lock("wallet", ttl=10.0, auto_renew=False).acquire()
    waiting = asyncio.create_task(ours.lock("wallet").acquire())
    await clock.advance(9.9)
    assert not waiting.done()
    await clock.advance(0.2)
    assert waiting.done()
    await waiting.result().release()


async def test_a_timeout_runs_by_the_clock(
    clock: ManualClock, ours: LockClient, theirs: LockClient
) -> None:
    """A wait ends when its timeout has passed on the clock, not in real time."""
    async with theirs.lock("wallet"):
        waiting = asyncio.create_task(ours.lock("wallet").acquire(timeout=300.0))
        await clock.advance(299.9)
        assert not waiting.done()
        await clock.advance(0.1)
        assert waiting.done()
        with pytest.raises(AcquireTimeout):
            await waiting


async def test_max_hold_runs_by_the_clock(clock: ManualClock, ours: LockClient) -> None:
    """A body that hangs is cancelled when ``max_hold`` has passed on the clock."""

    async def hang() -> None:
        async with ours.lock("wallet", max_hold=60.0):
            await asyncio.sleep(HOUR)

    task = asyncio.create_task(hang())
    await clock.advance(59.9)
    assert not task.done()
    await clock.advance(0.2)
    with pytest.raises(LeaseLost, match="max_hold"):
        await task


async def test_time_stands_still_unless_it_is_turned(clock: ManualClock, ours: LockClient) -> None:
    """Real time that passes shortens no lease."""
    lease = await ours.lock("wallet", ttl=0.05, auto_renew=False).acquire()
    validity = lease.validity
    # Real, to show that it does not count.
    await asyncio.sleep(0.07)
    assert lease.validity == validity
    await lease.release()


async def test_all_that_is_due_happens_in_its_order_and_at_its_instant() -> None:
    """Calls run by instant, then by age, each seeing the instant for which it was planned."""
    clock = ManualClock(100.0)
    seen: list[tuple[str, float]] = []

    def note(what: str) -> None:
        seen.append((what, clock()))
        if what == "first":
            clock.call_later(0.5, note, "planned on the way")

    clock.call_later(3.0, note, "last")
    clock.call_later(1.0, note, "first")
    clock.call_later(1.0, note, "first's twin")
    clock.call_later(4.1, note, "too late")
    await clock.advance(4.0)
    assert seen == [
        ("first", 101.0),
        ("first's twin", 101.0),
        ("planned on the way", 101.5),
        ("last", 103.0),
    ]
    assert clock() == 104.0


async def test_tasks_run_on_before_a_stall(clock: ManualClock, ours: LockClient) -> None:
    """A task that was only just created has its lease before the process stands still."""
    holding = asyncio.create_task(ours.lock("wallet", ttl=10.0).acquire())
    await clock.stall(10.0)
    assert not holding.result().is_held


async def test_time_does_not_go_back_where_two_turn_the_clock() -> None:
    """Who wanted less time than another task has let pass meanwhile changes nothing."""
    clock = ManualClock(100.0)
    seen: list[float] = []

    def look() -> None:
        seen.append(clock())

    async def turn(seconds: float) -> None:
        await clock.advance(seconds)
        look()

    clock.call_later(4.0, look)
    clock.call_later(8.0, look)
    await asyncio.gather(turn(5.0), turn(10.0))
    assert seen == sorted(seen)
    assert clock() == 110.0


async def test_a_stall_runs_nothing_before_its_end() -> None:
    """What was due in a stall happens after it, in order."""
    clock = ManualClock(100.0)
    seen: list[tuple[str, float]] = []
    clock.call_later(2.0, lambda: seen.append(("second", clock())))
    clock.call_later(1.0, lambda: seen.append(("first", clock())))
    await clock.stall(10.0)
    assert seen == [("first", 110.0), ("second", 110.0)]


async def test_a_call_that_was_called_off_does_not_happen() -> None:
    """Not even if that happens in the turn of the loop in which it is due."""
    clock = ManualClock()
    seen: list[str] = []
    clock.call_later(1.0, seen.append, "never").cancel()
    twin = clock.call_later(2.0, seen.append, "nor this")
    clock.call_later(1.5, twin.cancel)
    await clock.stall(3.0)
    assert seen == []


async def test_tasks_run_on_before_the_clock_does(clock: ManualClock, ours: LockClient) -> None:
    """A task that was only just created has the lock before time passes."""
    leases: list[Lease] = []

    async def hold() -> None:
        for name in ("first", "second"):
            async with ours.lock(name):
                pass
        leases.append(await ours.lock("third", ttl=10.0, auto_renew=False).acquire())

    task = asyncio.create_task(hold())
    await clock.advance(0.0)
    assert task.done()
    assert leases[0].validity == pytest.approx(9.898)
    await leases[0].release()


async def test_a_task_that_never_waits_does_not_hold_the_clock(clock: ManualClock) -> None:
    """A task that is always ready to run is left running after a bounded number of turns."""

    async def spin() -> None:
        while True:
            await asyncio.sleep(0)

    task = asyncio.create_task(spin())
    await clock.advance(1.0)
    task.cancel()
    assert clock() == 1_000_001.0


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf"), True, "1", None])
async def test_time_goes_on_by_a_number_of_seconds(clock: ManualClock, seconds: object) -> None:
    """What is no time that can pass is refused, and says why."""
    for turn in (clock.advance, clock.stall):
        with pytest.raises(ValueError, match="seconds must be"):
            await turn(seconds)  # type: ignore[arg-type]  # that is what is tested


def test_clients_that_share_locks_share_their_time(clock: ManualClock) -> None:
    """A clock for the second client can only be that of the first."""
    ours = LockClient.in_memory(clock=clock)
    LockClient.in_memory(share=ours, clock=clock)
    with pytest.raises(ValueError, match="another clock"):
        LockClient.in_memory(share=ours, clock=ManualClock())
    with pytest.raises(ValueError, match="another clock"):
        LockClient.in_memory(share=LockClient.in_memory(), clock=clock)


@pytest.fixture
def told(ours: LockClient) -> list[LockEvent]:
    """What the client tells of its locks."""
    events: list[LockEvent] = []
    ours.add_listener(events.append)
    return events


def figures(told: list[LockEvent]) -> list[tuple[type[LockEvent], float]]:
    """Return how long was waited or held, by what tells it."""
    found = ((type(each), getattr(each, "waited", getattr(each, "held", None))) for each in told)
    return [(kind, round(figure, 1)) for kind, figure in found if figure is not None]


async def test_events_tell_time_by_the_clock(
    clock: ManualClock, ours: LockClient, theirs: LockClient, told: list[LockEvent]
) -> None:
    """How long was waited and held, however the wait and the lease ended."""
    other = await theirs.lock("wallet", ttl=100.0).acquire()
    waiting = asyncio.create_task(ours.lock("wallet", ttl=10.0).acquire())
    gives_up = asyncio.create_task(ours.lock("wallet").acquire(timeout=7.0))
    await clock.advance(12.0)
    with pytest.raises(AcquireTimeout):
        await gives_up
    await other.release()
    lease = await waiting
    await clock.advance(HOUR)
    await lease.release()
    lost = await ours.lock("wallet", ttl=10.0, auto_renew=False).acquire()
    await clock.advance(20.0)
    assert not lost.is_held
    await asyncio.sleep(0)
    assert figures(told) == [
        (Abandoned, 7.0),
        (Acquired, 12.0),
        (Released, HOUR),
        (Acquired, 0.0),
        (Lost, 9.9),  # before the deadline, which is a drift of 0.1 s before the ttl
    ]


async def test_a_hand_off_among_tasks_tells_time_by_the_clock(
    clock: ManualClock, ours: LockClient, told: list[LockEvent]
) -> None:
    """Each has waited for as long as those before it held."""
    first = await ours.lock("wallet", ttl=100.0).acquire()
    second = asyncio.create_task(ours.lock("wallet", ttl=100.0).acquire())
    await clock.advance(3.0)
    await first.release()
    lease = await second
    await clock.advance(2.0)
    await lease.release()
    assert figures(told) == [(Acquired, 0.0), (Released, 3.0), (Acquired, 3.0), (Released, 2.0)]


async def test_a_lease_is_not_held_past_its_deadline_though_nobody_has_looked(
    ours: LockClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop that was blocked until then has told nobody of the loss yet."""
    lease = await ours.lock("wallet", ttl=10.0).acquire()
    engine = ours._engine("*")
    began_at = engine.clock()
    with monkeypatch.context() as patch:
        patch.setattr(engine, "clock", lambda: began_at + 10.0)
        assert not lease.is_held
        with pytest.raises(LeaseLost):
            lease.check()
    lease.check()
    await lease.release()
