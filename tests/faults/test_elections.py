"""Elections under faults: what is lost, late or away, and the known ways to have two leaders."""

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress

import pytest
import redis.asyncio as redis_asyncio
from anyio import fail_after

from aiodistlock import AcquireTimeout, Backoff, Election, Leader, LeaseLost, LockClient, Term
from aiodistlock.core.keys import ANNOUNCING
from aiodistlock.testing.embedded import EmbeddedRedis
from aiodistlock.waiting import observation
from tests.faults.world import EAGER, client, eventually, nothing_left
from tests.proxy import Action, ChaosProxy, Do, Frame, Hold, Repeat, on

LONG = 60.0
"""Longer than a test may take: nothing is noticed by an expiry."""

SHORT = 3.0
"""Such that a machine that stalls for a second or two costs no lease before its time."""

pytestmark = pytest.mark.bounded(60)


@pytest.fixture(params=[3, 2], ids=["resp3", "resp2"])
async def cut_off(named: ChaosProxy, request: pytest.FixtureRequest) -> AsyncIterator[LockClient]:
    """A client behind the proxy, warm."""
    async with client(named.url, protocol=request.param) as made:
        await (await made.lock("t:warm").acquire()).release()
        yield made


@pytest.fixture
async def other(redis_url: str) -> AsyncIterator[LockClient]:
    """A client that nothing befalls."""
    async with client(redis_url) as made:
        yield made


def election(made: LockClient, namespace: str, value: str = "", *, ttl: float = LONG) -> Election:
    """Make the election of the test."""
    return made.election("e", value=value, ttl=ttl, namespace=namespace, backoff=EAGER)


async def until(
    leaders: AsyncGenerator[Leader | None, None], value: str | None
) -> list[Leader | None]:
    """Observe until somebody proclaims a value, or nobody leads; return all that was seen."""
    seen = []
    with fail_after(30):
        async for leader in leaders:
            seen.append(leader)
            if (None if leader is None else leader.value) == value and (
                leader is None or value is not None
            ):
                return seen
    raise AssertionError("it ended")


@asynccontextmanager
async def observing(seen: Election) -> AsyncIterator[AsyncGenerator[Leader | None, None]]:
    """Observe until the end of the block, from after the first answer."""
    async with contextlib.aclosing(seen.observe()) as leaders:
        yield leaders


@asynccontextmanager
async def elsewhere(ours: Election) -> AsyncIterator[tuple[Term, asyncio.Task[None]]]:
    """Lead in a task of its own, until the term is lost or the block ends."""
    begun: asyncio.Queue[Term] = asyncio.Queue()

    async def lead() -> None:
        async with ours.lead(timeout=20) as term:
            begun.put_nowait(term)
            await asyncio.sleep(3600)

    leading = asyncio.create_task(lead())
    try:
        with fail_after(30):
            yield await begun.get(), leading
    finally:
        leading.cancel()
        await asyncio.gather(leading, return_exceptions=True)


async def hears(made: LockClient, seen: Election) -> None:
    """Wait until a client hears announcements."""
    store = made._engines["local"].observation(seen._lock._keys)._store

    async def heard() -> bool:
        return store.hear_leaders(seen._lock._keys)

    await eventually(heard, True, within=20)


FAULTS: dict[str, tuple[str, str, Action, int]] = {
    "the question is lost": ("request", "LEADER", Do.CUT_BEFORE, 1),
    "its answer is lost": ("reply", "LEADER", Do.CUT_BEFORE, 1),
    "it is answered, then the connection breaks": ("reply", "LEADER", Do.CUT_AFTER, 1),
    "a later question is lost": ("request", "LEADER", Do.CUT_BEFORE, 2),
    "the proclamation is lost": ("request", "PROCLAIM", Do.CUT_BEFORE, 1),
    "that it was proclaimed is lost": ("reply", "PROCLAIM", Do.CUT_BEFORE, 1),
    "it is proclaimed twice": ("request", "PROCLAIM", Repeat(), 1),
    "that it is taken back is lost": ("request", "PROCLAIM", Do.CUT_BEFORE, 2),
    "the answer to that is lost": ("reply", "PROCLAIM", Do.CUT_BEFORE, 2),
    "the first subscription is lost": ("request", "SUBSCRIBE", Do.CUT_BEFORE, 1),
    "the second subscription is lost": ("request", "SUBSCRIBE", Do.CUT_BEFORE, 2),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_one_frame_that_is_lost_or_comes_twice_changes_nothing(  # noqa: PLR0917  # its stage
    fault: str,
    named: ChaosProxy,
    cut_off: LockClient,
    other: LockClient,
    redis: redis_asyncio.Redis,
    namespace: str,
) -> None:
    """The leader is seen from here and there, and so is its end; nothing stays behind."""
    kind, name, action, number = FAULTS[fault]
    named.counts.clear()
    named.rules.append(on(kind, name, action, number=number))  # type: ignore[arg-type]  # a literal
    here, there = election(cut_off, namespace, "here"), election(other, namespace)
    async with observing(here) as from_here, observing(there) as from_there:
        await until(from_here, None)
        await until(from_there, None)
        async with here.lead() as term:
            (*_, seen) = await until(from_here, "here")
            (*_, also) = await until(from_there, "here")
            assert seen == also == Leader(term.fencing_token, "here", term.token)
        await until(from_here, None)
        await until(from_there, None)
    await nothing_left(redis, namespace, within=20)


async def test_announcements_that_are_lost_cost_no_more_than_the_lease(
    named: ChaosProxy, cut_off: LockClient, other: LockClient, namespace: str
) -> None:
    """No message arrives: the end is noticed when the lease must be over, a beginning soon."""
    here, there = election(cut_off, namespace), election(other, namespace, "there", ttl=SHORT)
    named.rules.append(on("push", "MESSAGE", Do.DROP))
    async with observing(here) as leaders:
        await until(leaders, None)
        async with there.lead():
            await until(leaders, "there")
        await until(leaders, None)
    assert named.counts["push", "MESSAGE"] > 0


async def test_an_announced_change_is_asked_for_once_however_many_observe(
    named: ChaosProxy, cut_off: LockClient, other: LockClient, namespace: str
) -> None:
    """A message and a question for each change, whatever the number of observers."""
    there = election(other, namespace, "0")
    async with AsyncExitStack() as stack:
        observers = [
            await stack.enter_async_context(observing(election(cut_off, namespace)))
            for _ in range(50)
        ]
        await asyncio.gather(*(until(each, None) for each in observers))
        await hears(cut_off, election(cut_off, namespace))
        term = await stack.enter_async_context(there.lead())
        await asyncio.gather(*(until(each, "0") for each in observers))
        asked, told = named.requests["LEADER"], named.counts["push", "MESSAGE"]
        for number in range(1, 11):
            await term.proclaim(str(number))
            await asyncio.gather(*(until(each, str(number)) for each in observers))
        assert named.counts["push", "MESSAGE"] - told == 10
        assert named.requests["LEADER"] - asked <= 12  # one more where a lease was to be over


async def test_nothing_is_missed_between_the_question_and_the_subscription(
    named: ChaosProxy, other: LockClient, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under RESP2 they go different ways: what comes between is found, and not by polling."""
    for pause in ("POLL_EVERY", "LOOK_EVERY"):
        monkeypatch.setattr(observation, pause, 3600.0)
    heard = asyncio.Event()

    def late(frame: Frame) -> Action | None:
        announces = frame.name == "SUBSCRIBE" and frame.args[1].startswith(ANNOUNCING)
        return Hold(heard) if frame.kind == "request" and announces else None

    named.rules.append(late)
    async with (
        client(named.url, protocol=2) as made,
        observing(election(made, namespace)) as leaders,
    ):
        assert await anext(leaders) is None
        await named.seen("request", "SUBSCRIBE", 2)
        async with election(other, namespace, "between").lead():
            await eventually(lambda: _value(other, namespace), "between")
            heard.set()
            await until(leaders, "between")


async def test_an_observer_that_was_away_sees_the_latest_not_the_history(
    named: ChaosProxy, cut_off: LockClient, other: LockClient, namespace: str
) -> None:
    """Its connection was gone while two led, one after the other."""
    async with observing(election(cut_off, namespace)) as leaders:
        await until(leaders, None)
        await named.refuse()
        await named.cut()
        async with election(other, namespace, "missed").lead():
            pass
        async with election(other, namespace, "latest").lead() as term:
            await eventually(lambda: _value(other, namespace), "latest")
            await named.accept()
            seen = await until(leaders, "latest")
            assert seen == [Leader(term.fencing_token, "latest", term.token)]


async def _value(made: LockClient, namespace: str) -> str | None:
    leader = await election(made, namespace).leader()
    return None if leader is None else leader.value


async def test_a_candidate_is_back_soon_after_redis_whatever_its_backoff(
    named: ChaosProxy, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It stands again within a second or so, as whoever waits asks again."""

    async def main(term: Term) -> int:
        return term.fencing_token

    async with client(named.url, unavailable_after=0.2) as made:
        rare = Backoff(initial=LONG, cap=LONG, jitter=0.0)
        standing = made.election("e", ttl=LONG, namespace=namespace, backoff=rare)
        await named.refuse()
        running = asyncio.create_task(standing.run(main))

        async def gave_up() -> bool:
            return "no candidate for now" in caplog.text

        await eventually(gave_up, True)
        await named.accept()
        with fail_after(LONG / 2):
            assert await running > 0


async def test_a_leader_that_dies_before_it_has_proclaimed_is_seen_and_missed(
    named: ChaosProxy, cut_off: LockClient, other: LockClient, namespace: str
) -> None:
    """It leads without a value; when its lease is over nobody does, though nobody said so."""
    named.rules.append(on("request", "PROCLAIM", Do.BLACK_HOLE))
    async with elsewhere(election(cut_off, namespace, "never", ttl=SHORT)) as (term, leading):
        async with observing(election(other, namespace)) as leaders:
            # Nothing was announced, so only who asks finds it.
            nameless = Leader(term.fencing_token, None, term.token)
            assert await anext(leaders) == nameless
            await until(leaders, None)
        with pytest.raises(LeaseLost):
            await leading


# The known ways to have two leaders.


async def test_a_session_lost_while_the_callback_runs_ends_it_before_another_leads(
    named: ChaosProxy, cut_off: LockClient, other: LockClient, namespace: str
) -> None:
    """Curator's listener had to interrupt its callback by itself; here it has ended by then."""
    happened: list[str] = []
    leads = asyncio.Event()
    terms: list[int] = []

    async def main(term: Term) -> None:
        terms.append(term.fencing_token)
        if len(terms) > 1:
            return  # again, after the loss
        happened.append("leads")
        leads.set()
        try:
            await asyncio.sleep(3600)
        finally:
            happened.append("ended")
            with pytest.raises(LeaseLost):
                term.check()

    running = asyncio.create_task(election(cut_off, namespace, ttl=SHORT).run(main))
    with fail_after(40):
        await leads.wait()
        named.black_hole()
        async with election(other, namespace).lead() as term:
            happened.append("another leads")
            assert happened == ["leads", "ended", "another leads"]
        await named.accept()
        await named.cut()
        await running
    assert terms[0] < term.fencing_token < terms[1]


async def test_a_closed_client_takes_back_what_it_proclaimed(
    redis_url: str, other: LockClient, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """And tells: or observers would see it lead until its lease must be over."""
    here = client(redis_url)
    leading = asyncio.create_task(election(here, namespace, "a").lead().__aenter__())
    async with aclosing(election(other, namespace).observe()) as leaders:
        await until(leaders, "a")
        await here.aclose()
        await until(leaders, None)
    assert not [each async for each in redis.scan_iter(f"{ANNOUNCING.decode()}*{namespace}*")]
    await leading


async def test_an_observer_that_is_stale_does_not_make_anybody_lead(
    named: ChaosProxy, cut_off: LockClient, other: LockClient, namespace: str
) -> None:
    """It still says that its own process leads; the term itself knows better."""
    here, there = election(cut_off, namespace, "here", ttl=SHORT), election(other, namespace)
    async with observing(here) as leaders, elsewhere(here) as (term, leading):
        await until(leaders, "here")
        named.black_hole()
        async with there.lead(timeout=20) as successor:
            seen = here._lock._engine().observation(here._lock._keys).led
            assert seen is not None
            assert seen.fence == term.fencing_token < successor.fencing_token
            with pytest.raises(LeaseLost):
                term.check()
            assert not term.is_held
            await named.accept()
            await named.cut()
            await until(leaders, "")
            successor.check()
        with pytest.raises(LeaseLost):
            await leading


async def test_a_former_leader_releases_nothing_of_its_successor(
    named: ChaosProxy, cut_off: LockClient, other: LockClient, namespace: str
) -> None:
    """client-go's release wrote over whoever led by then; here the clean-up comes late, too."""
    here, there = (
        election(cut_off, namespace, "here", ttl=SHORT),
        election(other, namespace, "there"),
    )
    async with elsewhere(here) as (_, leading):
        await eventually(lambda: _value(other, namespace), "here")
        named.black_hole()
        async with there.lead(timeout=20) as successor:
            await eventually(lambda: _value(other, namespace), "there")
            with pytest.raises(LeaseLost):
                await leading
            released = named.requests["RELEASE"]
            await named.accept()
            await named.cut()
            # It is connected again, and what it gave up has arrived before this.
            leader = Leader(successor.fencing_token, "there", successor.token)
            assert await here.leader(timeout=20) == leader
            assert named.requests["RELEASE"] > released
            successor.check()


async def test_redis_pys_lock_and_an_election_exclude_each_other(
    other: LockClient, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """While it holds the name nobody leads, and nobody is told to."""
    here = election(other, namespace, "here")
    async with observing(here) as leaders:
        await until(leaders, None)
        async with redis.lock(f"{namespace}e", timeout=LONG):
            assert await here.leader() is None
            with pytest.raises(AcquireTimeout):
                async with here.lead(timeout=0.1):
                    raise AssertionError("two hold the name")
        async with here.lead(timeout=20):
            assert not await redis.lock(f"{namespace}e", timeout=LONG).acquire(blocking=False)
            assert all(each is None or each.term for each in await until(leaders, "here"))


async def test_what_is_flushed_under_a_leader_ends_its_term_and_the_next_is_higher(
    embedded_redis: EmbeddedRedis,
) -> None:
    """As after a failover that lost the lease: two may lead for a moment, the terms tell."""
    async with AsyncExitStack() as stack:
        one, two = [await stack.enter_async_context(client(embedded_redis.url)) for _ in range(2)]
        leaders = await stack.enter_async_context(observing(election(two, "t:")))
        await until(leaders, None)
        former, leading = await stack.enter_async_context(
            elsewhere(election(one, "t:", "one", ttl=SHORT))
        )
        await until(leaders, "one")
        async with redis_asyncio.from_url(embedded_redis.url) as admin:
            await admin.flushall()
        async with election(two, "t:", "two").lead(timeout=20) as term:
            assert term.fencing_token > former.fencing_token
            await until(leaders, "two")
            with pytest.raises(LeaseLost):
                await leading
            term.check()


async def test_cancelled_at_whatever_turn_a_term_leaves_nothing(
    cut_off: LockClient, other: LockClient, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """Entering, proclaiming, resigning, leaving: neither lease nor proclamation stays."""

    async def term_of_office() -> None:
        async with election(cut_off, namespace, "a").lead() as term:
            await term.proclaim("b")
            await term.resign()

    for count in range(60):
        task = asyncio.create_task(term_of_office())
        for _ in range(count):
            await asyncio.sleep(0)
        done = task.done()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        async with election(other, namespace, "next").lead(timeout=20):
            pass
        await nothing_left(redis, namespace, within=20)
        if done:
            break


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
async def test_a_child_that_leaves_the_block_takes_nothing_from_the_parent(
    other: LockClient, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """The term is the parent's, and so is what it proclaims."""
    here, parent = election(other, namespace, "parent"), os.getpid()
    pipe = here._lock._engine().connection
    try:
        async with here.lead() as term:
            await eventually(lambda: _value(other, namespace), "parent")
            child = os.fork()
            if child != 0:
                os.waitpid(child, 0)  # noqa: ASYNC222  # it ends at once
                term.check()
                assert await _value(other, namespace) == "parent"
    finally:
        if os.getpid() != parent:
            assert here.healthy(grace=0)
            pipe._flush()  # type: ignore[attr-defined]  # what the copied loop would still do
            os._exit(0)
    await nothing_left(redis, namespace)
