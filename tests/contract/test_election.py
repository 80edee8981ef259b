"""What an election promises, wherever it is held."""

import asyncio
import gc
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from anyio import fail_after

from aiodistlock import (
    AcquireTimeout,
    Election,
    Leader,
    LeaseLost,
    LockClient,
    LockError,
    NotHeld,
    StoreUnavailable,
    Term,
)
from aiodistlock.waiting import observation
from tests.contract.world import ORDERED, World, turns

pytestmark = pytest.mark.parametrize("world", ORDERED, indirect=True)

LONG = 30.0


def election(world: World, client: LockClient, value: str = "", **options: Any) -> Election:
    """Make an election in the test's own namespace."""
    options = {"ttl": LONG, "namespace": world.namespace, **options}
    return client.election("scheduler", value=value, **options)


@asynccontextmanager
async def observing(seen: Election) -> AsyncIterator[AsyncGenerator[Leader | None, None]]:
    """Observe until the end of the block."""
    leaders = seen.observe()
    try:
        yield leaders
    finally:
        await leaders.aclose()


async def until(leaders: AsyncGenerator[Leader | None, None], value: str | None) -> Leader | None:
    """Observe until somebody leads who proclaims a value; ``None``: until nobody leads."""
    with fail_after(20):
        async for leader in leaders:
            if leader is None and value is None:
                return None
            if leader is not None and value is not None and leader.value == value:
                return leader
    raise AssertionError("it ended")


async def candidates(world: World, client: LockClient, count: int) -> None:
    """Wait until so many candidates queue, or poll where there is no queue."""
    lock = world.lock(client, "scheduler")
    with fail_after(20):
        while len((await lock.inspect()).waiters) != count:
            await asyncio.sleep(0.01)


async def test_the_leader_is_known_by_its_term_its_value_and_its_token(
    world: World, first: LockClient, second: LockClient
) -> None:
    """To anybody who asks; nobody leads before and behind."""
    ours, theirs = election(world, first, "10.0.0.7:8000"), election(world, second)
    assert await theirs.leader() is None
    async with ours.lead() as term:
        assert await ours.leader() == Leader(term.fencing_token, "10.0.0.7:8000", term.token)
        assert await theirs.leader() == await ours.leader()
        assert term.is_held
        assert 0 < term.validity <= LONG
        term.check()
    assert await ours.leader() is None
    with pytest.raises(NotHeld):
        term.check()
    assert term.validity == 0.0


async def test_one_leads_at_a_time_and_terms_rise(
    world: World, processes: list[LockClient]
) -> None:
    """Each candidate gets its turn, under a higher term than the one before."""
    inside = 0
    terms: list[int] = []

    async def lead(client: LockClient) -> None:
        nonlocal inside
        async with election(world, client).lead() as term:
            inside += 1
            assert inside == 1
            terms.append(term.fencing_token)
            await turns()
            inside -= 1

    with fail_after(30):
        await asyncio.gather(*map(lead, processes * 2))
    assert len(terms) == 8
    assert terms == sorted(set(terms))


async def test_tasks_of_one_process_are_candidates_each(world: World, first: LockClient) -> None:
    """Nothing is handed over in memory: each term has a token of its own."""
    tokens: list[str] = []

    async def lead() -> None:
        async with election(world, first).lead() as term:
            tokens.append(term.token)
            assert (await election(world, first).leader()) == Leader(
                term.fencing_token, "", term.token
            )

    with fail_after(30):
        await asyncio.gather(lead(), lead(), lead())
    assert len(set(tokens)) == 3


async def test_who_does_not_get_its_turn_in_time_is_told(
    world: World, first: LockClient, second: LockClient
) -> None:
    """By the error that a lock has; and it is no candidate any more."""
    async with election(world, first).lead():
        with pytest.raises(AcquireTimeout):
            async with election(world, second).lead(timeout=0.05):
                raise AssertionError("two lead")
        await candidates(world, first, 0)


async def test_a_leader_proclaims_anew(world: World, first: LockClient, second: LockClient) -> None:
    """What it proclaims later replaces what it did before."""
    ours = election(world, first, "starting")
    async with ours.lead() as term:
        await term.proclaim("ready: ärger {0}")
        assert term.value == "ready: ärger {0}"
        leader = await election(world, second).leader()
        assert leader == Leader(term.fencing_token, "ready: ärger {0}", term.token)
    with pytest.raises(NotHeld):
        await term.proclaim("late")


async def test_a_successor_does_not_inherit_what_was_proclaimed(
    world: World, first: LockClient, second: LockClient
) -> None:
    """A holder that has proclaimed nothing is no address to send to."""
    async with election(world, first, "old").lead():
        pass
    async with world.lock(second, "scheduler") as lease:
        leader = await election(world, first).leader()
        assert leader == Leader(lease.fencing_token, None, lease.token)


async def test_an_observer_sees_who_leads_from_the_first_to_the_last(
    world: World, first: LockClient, second: LockClient, processes: list[LockClient]
) -> None:
    """Also one that begins while somebody leads; each change once."""
    async with observing(election(world, processes[2])) as leaders:
        assert await anext(leaders) is None
        async with election(world, first, "a").lead() as term:
            seen = await until(leaders, "a")
            assert seen == Leader(term.fencing_token, "a", term.token)
            async with observing(election(world, second)) as late:
                assert await anext(late) == seen
            await term.proclaim("b")
            assert await until(leaders, "b") == Leader(term.fencing_token, "b", term.token)
        assert await until(leaders, None) is None


async def test_observers_of_one_client_share_what_it_knows(world: World, first: LockClient) -> None:
    """However many observe, the client asks once; the last that leaves ends it."""
    engine = election(world, first)._lock._engine()
    async with observing(election(world, first)) as one, observing(election(world, first)) as other:
        assert (await anext(one), await anext(other)) == (None, None)
        assert len(engine.observations) == 1
        async with election(world, first, "a").lead():
            assert await until(one, "a") == await until(other, "a")
    assert engine.observations == {}


async def test_an_observer_that_is_forgotten_or_cancelled_leaves(
    world: World, first: LockClient
) -> None:
    """Nothing goes on observing for nobody."""
    seen = election(world, first)
    engine = seen._lock._engine()
    async for leader in seen.observe():
        assert leader is None
        break

    async def observe() -> None:
        async for _ in seen.observe():
            pass

    task = asyncio.create_task(observe())
    await turns()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    gc.collect()
    with fail_after(20):
        while engine.observations:
            await asyncio.sleep(0.01)


async def test_an_observer_is_told_that_its_client_closes(world: World) -> None:
    """It does not wait for ever."""
    async with world.open() as client, observing(election(world, client)) as leaders:
        assert await anext(leaders) is None
        following = asyncio.create_task(anext(leaders))
        await turns()
        await client.aclose()
        with pytest.raises(LockError, match="closed"), fail_after(20):
            await following


async def test_a_leader_that_resigns_in_its_body_ends_without_an_error(
    world: World, first: LockClient, second: LockClient
) -> None:
    """The body is cancelled where it resigns, and behind the block the next candidate leads."""
    ended = False
    async with election(world, first, "a").lead() as term:
        try:
            await term.resign()
            raise AssertionError("it goes on")
        finally:
            ended = True
    assert ended
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    async with election(world, second).lead(timeout=20):
        with pytest.raises(NotHeld):
            await term.resign()


async def test_the_body_has_ended_before_the_next_one_leads(
    world: World, first: LockClient, second: LockClient
) -> None:
    """Resigned by another task: its clean-up is over when the successor begins."""
    happened: list[str] = []
    leads = asyncio.Event()
    terms: list[Term] = []

    async def lead() -> None:
        async with election(world, first).lead() as term:
            terms.append(term)
            leads.set()
            try:
                await asyncio.sleep(3600)
            finally:
                await turns(20)
                happened.append("ended")

    async def follow() -> None:
        async with election(world, second).lead():
            happened.append("leads")

    with fail_after(30):
        leading = asyncio.create_task(lead())
        await leads.wait()
        following = asyncio.create_task(follow())
        await turns(20)
        await terms[0].resign()
        happened.append("resigned")
        await leading
        await following
    assert happened[0] == "ended"
    assert sorted(happened) == ["ended", "leads", "resigned"]


async def test_a_cancellation_from_outside_is_not_swallowed_by_a_resignation(
    world: World, first: LockClient
) -> None:
    """Who cancels the task that leads sees it cancelled, also if it resigns in that turn."""
    terms: list[Term] = []

    async def lead() -> None:
        async with election(world, first).lead() as term:
            terms.append(term)
            await asyncio.sleep(3600)

    task = asyncio.create_task(lead())
    with fail_after(20):
        while not terms:
            await asyncio.sleep(0.001)
        resigning = asyncio.create_task(terms[0].resign())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await resigning
    assert await election(world, first).leader() is None


async def test_run_leads_again_after_a_resignation_until_main_returns(
    world: World, first: LockClient
) -> None:
    """Each time under a higher term; what main returns is returned."""
    terms: list[int] = []

    async def main(term: Term) -> str:
        terms.append(term.fencing_token)
        if len(terms) < 3:
            await term.resign()
        return "done"

    with fail_after(30):
        assert await election(world, first).run(main) == "done"
    assert len(terms) == 3
    assert terms == sorted(set(terms))


async def test_run_leads_again_after_a_loss_however_that_is_told(
    world: World, first: LockClient
) -> None:
    """By cancellation, by check(), or in an error group: none of these ends it."""
    ways: list[str] = []

    async def main(term: Term) -> None:
        ways.append("again")
        if len(ways) == 4:
            return
        lease = term._lease._process_lease
        term._lease._client.watchdog.refused(lease, "said the test")
        if len(ways) == 1:
            await asyncio.sleep(3600)
        elif len(ways) == 2:
            term.check()
        else:
            raise ExceptionGroup("several", [LeaseLost(term.name, "why", term.fencing_token)])

    with fail_after(30):
        await election(world, first).run(main)
    assert len(ways) == 4


async def test_an_error_of_main_ends_run_and_the_term(
    world: World, first: LockClient, second: LockClient
) -> None:
    """Also the loss of another lock, and Redis that is away for main only."""
    errors = [
        KeyError("x"),
        LeaseLost("another", "why", 1),
        StoreUnavailable("another", [OSError()]),
    ]

    async def main(_: Term) -> None:
        raise errors[0]

    while errors:
        with pytest.raises(type(errors[0])), fail_after(20):
            await election(world, first).run(main)
        assert await election(world, second).leader() is None
        errors.pop(0)


async def test_a_cancelled_run_ends_main_before_the_next_one_leads(
    world: World, first: LockClient, second: LockClient
) -> None:
    """The application is shut down: its main has ended, then it leads no more."""
    began, ended = asyncio.Event(), False

    async def main(_: Term) -> None:
        nonlocal ended
        began.set()
        try:
            await asyncio.sleep(3600)
        finally:
            await turns()
            ended = True

    running = asyncio.create_task(election(world, first).run(main))
    with fail_after(20):
        await began.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert ended
    async with election(world, second).lead(timeout=20):
        pass


async def test_a_candidate_that_is_cancelled_leaves_nothing(
    world: World, first: LockClient, second: LockClient
) -> None:
    """At whatever turn: the next candidate leads."""
    for count in range(12):
        async with election(world, first).lead():
            task = asyncio.create_task(election(world, second).run(lambda _: asyncio.sleep(0)))
            await turns(count)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        async with election(world, second).lead(timeout=20):
            pass


async def test_whoever_holds_the_name_by_a_plain_lock_is_no_leader(
    world: World, first: LockClient, second: LockClient
) -> None:
    """A task that holds a lock of that name keeps all from leading, and is shown as it is."""
    async with world.lock(first, "scheduler") as lease:
        with pytest.raises(AcquireTimeout):
            async with election(world, second).lead(timeout=0.05):
                raise AssertionError("two hold the name")
        assert await election(world, second).leader() == Leader(
            lease.fencing_token, None, lease.token
        )


async def test_an_election_is_healthy_while_nothing_is_overdue(
    world: World, first: LockClient
) -> None:
    """A candidate, a leader, and one that has ended."""
    ours = election(world, first)
    assert ours.healthy()
    async with ours.lead():
        assert ours.healthy(grace=0)
    assert ours.healthy(grace=0)
    with pytest.raises(ValueError, match="grace"):
        ours.healthy(grace=-1)


async def test_a_body_that_does_not_end_is_unhealthy_once_its_lease_is_over(
    world: World, first: LockClient
) -> None:
    """Asked in another thread, while the event loop is blocked for longer than the ttl."""
    ours = election(world, first, ttl=0.2)
    unhealthy = threading.Event()

    def ask() -> None:
        while ours.healthy(grace=0.1):
            time.sleep(0.01)
        unhealthy.set()

    with suppress(LeaseLost):
        async with ours.lead():
            threading.Thread(target=ask, daemon=True).start()
            assert unhealthy.wait(20)  # blocks the loop
            assert ours.healthy(grace=3600)
    assert ours.healthy(grace=0)


@pytest.mark.needs_queue
async def test_changes_are_announced_nobody_has_to_poll(
    world: World, first: LockClient, second: LockClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also to an observer in whose process somebody leads, and to one that came later."""
    for pause in ("POLL_EVERY", "LOOK_EVERY"):
        monkeypatch.setattr(observation, pause, 3600.0)
    async with (
        observing(election(world, first, ttl=3600)) as here,
        observing(election(world, second, ttl=3600)) as there,
    ):
        assert (await anext(here), await anext(there)) == (None, None)
        for value in ("a", "b"):
            async with election(world, first, value, ttl=3600).lead() as term:
                await until(there, value)
                await until(here, value)
                await term.proclaim(f"{value}!")
                await until(there, f"{value}!")
                async with observing(election(world, second, ttl=3600)) as late:
                    await until(late, f"{value}!")
            await until(there, None)
            await until(here, None)
