"""Leases that linger, by a clock that the test turns: when they are used again, and their end."""

import asyncio
import gc
import random
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from anyio import fail_after

from aiodistlock import (
    Acquired,
    AsyncLock,
    HandedOver,
    Lease,
    Lingered,
    LockClient,
    LockError,
    LockEvent,
    Released,
)
from aiodistlock.core.fencing import MAX_LOCAL_HANDOFFS
from aiodistlock.deployments.memory.entry import Entry
from aiodistlock.deployments.memory.server import MemoryServer
from aiodistlock.protocol.answers import Granted
from aiodistlock.protocol.grant_message import Grant, Recall
from aiodistlock.testing.clock import ManualClock
from aiodistlock.waiting.acquire import acquire
from aiodistlock.waiting.linger_rules import DISARMED_FOR, MOST, QUIET_FOR, WORTH
from tests.contract.world import turns
from tests.stories import Told

KEY = b"lock:wallet"


@pytest.fixture
def clock() -> ManualClock:
    """The time of all clients."""
    return ManualClock()


@pytest.fixture
async def ours(clock: ManualClock) -> AsyncIterator[LockClient]:
    """A client whose leases linger."""
    async with LockClient.in_memory(clock=clock) as client:
        yield client


@pytest.fixture
async def theirs(ours: LockClient) -> AsyncIterator[LockClient]:
    """Another one, as of a second process."""
    async with LockClient.in_memory(share=ours) as client:
        yield client


def entry(client: LockClient, key: bytes = KEY) -> Entry:
    """Return what the server has about the lock."""
    server = client._source
    assert isinstance(server, MemoryServer)
    return server.entry(key, client._engine("*").clock())


async def use(lock: AsyncLock, times: int = 1) -> list[int]:
    """Hold the lock so often, and return the fencing tokens."""
    fences = []
    for _ in range(times):
        async with lock as lease:
            fences.append(lease.fencing_token)
    return fences


async def asked(client: LockClient, lock: AsyncLock, count: int) -> asyncio.Task[Any]:
    """Have a task of another process wait for the lock, until it is in the queue."""
    task = asyncio.create_task(lock.acquire())
    with fail_after(5):
        while len(entry(client, lock._keys.key).queue) != count:
            await asyncio.sleep(0)
    return task


async def test_it_is_used_again_without_asking(ours: LockClient) -> None:
    """The same token at the key, a fencing token of its own each time."""
    lock = ours.lock("wallet", linger=1.0)
    (first,) = await use(lock)
    token = entry(ours).holder
    assert await use(lock, 5) == [first + number for number in range(1, 6)]
    assert entry(ours).holder == token
    assert ours.linger_counts == (5, 0, 0)


async def test_without_the_option_nothing_lingers(ours: LockClient) -> None:
    """The key is gone with the block."""
    await use(ours.lock("wallet"))
    assert entry(ours).holder is None


async def test_it_ends_when_its_time_is_over(ours: LockClient, clock: ManualClock) -> None:
    """Released for good, at Redis, though nobody asks."""
    lock = ours.lock("wallet", linger=1.0)
    await use(lock)
    await clock.advance(0.9)
    assert entry(ours).holder is not None
    await clock.advance(0.2)
    assert entry(ours).holder is None
    assert ours.linger_counts == (0, 1, 0)
    await use(lock)
    assert ours.linger_counts == (0, 1, 0)


async def test_each_use_begins_its_time_anew(ours: LockClient, clock: ManualClock) -> None:
    """And what ends first is looked at first, whichever began before."""
    lock, short = ours.lock("wallet", linger=2.0), ours.lock("other", linger=0.5)
    for _ in range(2):
        await use(lock)
        await clock.advance(1.5)
    await use(short)
    await clock.advance(0.51)
    assert entry(ours, b"lock:other").holder is None
    assert entry(ours).holder is None
    assert ours.linger_counts == (1, 2, 0)


async def test_it_is_not_used_when_its_time_is_over_and_nobody_has_looked(
    ours: LockClient, clock: ManualClock
) -> None:
    """A busy event loop looks late."""
    lock = ours.lock("wallet", linger=1.0)
    await use(lock)
    token = entry(ours).holder
    clock._now += 1.5
    async with lock as lease:
        assert lease.token.encode() != token
    assert ours.linger_counts == (0, 1, 0)


async def test_it_is_not_used_past_half_of_its_ttl(ours: LockClient, clock: ManualClock) -> None:
    """Each holder has that before it, though the event loop was busy meanwhile."""
    lock = ours.lock("wallet", ttl=10.0, linger=60.0)
    await use(lock)
    clock._now += 5.5
    async with lock as lease:
        assert lease.validity > 9.0
    assert ours.linger_counts == (0, 1, 0)


async def test_a_lock_with_a_longer_ttl_does_not_use_it(ours: LockClient) -> None:
    """Half of its own ttl is what it must have left."""
    await use(ours.lock("wallet", ttl=10.0, linger=60.0))
    async with ours.lock("wallet", ttl=30.0) as lease:
        assert lease.validity > 29.0
    assert ours.linger_counts == (0, 1, 0)


async def test_it_is_not_renewed_but_released_when_that_is_due(
    ours: LockClient, clock: ManualClock
) -> None:
    """Whatever the option says, its key is there for no longer than if its process died."""
    await use(ours.lock("wallet", ttl=9.0, linger=600.0))
    await clock.advance(4.0)
    assert entry(ours).holder is None


async def test_in_use_it_is_renewed(ours: LockClient, clock: ManualClock) -> None:
    """As any lease."""
    lock = ours.lock("wallet", ttl=9.0, linger=60.0)
    await use(lock)
    async with lock as lease:
        await clock.advance(60.0)
        assert lease.is_held
        assert ours.linger_counts.hits == 1


async def test_a_waiter_behind_it_has_the_lock_at_once(
    ours: LockClient, theirs: LockClient
) -> None:
    """No time passes: the recall gives it up."""
    lock = ours.lock("wallet", linger=60.0)
    fences = await use(lock, 3)
    with fail_after(5):
        async with theirs.lock("wallet", linger=60.0) as lease:
            assert lease.fencing_token > max(fences)
    assert ours.linger_counts == (2, 0, 1)


async def test_a_lease_that_is_recalled_in_use_is_passed_on_at_its_release(
    ours: LockClient, theirs: LockClient
) -> None:
    """It is not used again, and no second recall is needed."""
    lock = ours.lock("wallet", linger=60.0)
    await use(lock, 2)
    with fail_after(5):
        async with lock:
            waiting = await asked(ours, theirs.lock("wallet"), 1)
            await turns()
        lease = await waiting
        assert ours.linger_counts == (2, 0, 1)
        await lease.release()


async def test_a_recall_bounds_local_hand_offs_by_their_span(
    ours: LockClient, theirs: LockClient, clock: ManualClock
) -> None:
    """Tasks that wait here get it for ``handoff_span`` since the grant, then the other process."""
    lock = ours.lock("wallet", linger=60.0)
    lease = await lock.acquire()
    waiting = await asked(ours, theirs.lock("wallet"), 1)
    here = [asyncio.create_task(lock.acquire()) for _ in range(2)]
    await turns()
    await lease.release()
    lease = await here[0]
    await clock.advance(0.06)
    await lease.release()
    with fail_after(5):
        await (await waiting).release()
        await (await here[1]).release()


async def test_a_recall_of_an_older_token_is_ignored(ours: LockClient, clock: ManualClock) -> None:
    """It was for a lease that is over."""
    lock = ours.lock("wallet", linger=1.0)
    await use(lock)
    former = entry(ours).holder
    assert former is not None
    await clock.advance(1.1)
    await use(lock)
    ours._engine("*").on_recall(Recall(former, KEY))
    await use(lock)
    assert ours.linger_counts == (1, 1, 0)
    assert entry(ours).holder is not None


async def test_a_recall_that_overtakes_the_grant_is_remembered(ours: LockClient) -> None:
    """Under RESP2 it may come before the answer that tells of the lease."""
    lock = ours.lock("wallet", linger=60.0)
    acquiring = asyncio.create_task(lock.acquire())
    await asyncio.sleep(0)
    engine = ours._engine("*")
    (token,) = engine.attempts
    engine.on_recall(Recall(token, KEY))
    await (await acquiring).release()
    await turns()
    assert entry(ours).holder is None


async def test_a_recall_of_a_name_that_nobody_knows_is_ignored(ours: LockClient) -> None:
    """Anybody may publish."""
    plain = ours.lock("plain")
    async with plain as lease:
        engine = ours._engine("*")
        engine.on_recall(Recall(b"x", b"lock:nobody's"))
        engine.on_recall(Recall(lease.token.encode(), b"lock:plain"))
    assert ours.linger_counts == (0, 0, 0)


async def test_a_lease_that_another_process_handed_over_does_not_linger(
    ours: LockClient, theirs: LockClient
) -> None:
    """Others may wait behind it."""
    lease = await theirs.lock("wallet").acquire()
    waiting = await asked(ours, ours.lock("wallet", linger=60.0), 1)
    await lease.release()
    with fail_after(5):
        await (await waiting).release()
    await turns()
    assert entry(ours).holder is None


async def test_a_grant_that_overtakes_the_answer_does_not_linger(
    ours: LockClient, clock: ManualClock
) -> None:
    """Under RESP2 nothing has told yet that the lock was held."""
    acquiring = asyncio.create_task(ours.lock("wallet", linger=60.0).acquire())
    await asyncio.sleep(0)
    (attempt,) = ours._engine("*").attempts.values()
    now = clock()
    grant = Grant(int(now * 1e6), int(now * 1e6), 5.0, attempt.token, KEY)
    attempt.contender.granted_by_message(attempt, grant, now, 5.0)
    await turns()
    await (await acquiring).release()
    await turns()
    assert len(ours._engine("*").lingering) == 0


async def test_a_lease_that_was_passed_on_and_comes_back_does_not_linger(
    ours: LockClient, clock: ManualClock
) -> None:
    """Those that it came back from may wait for it again."""
    lock = ours.lock("wallet", linger=60.0)
    lease = await lock.acquire()
    waiting = asyncio.create_task(lock.acquire())
    await turns()
    await clock.advance(0.06)
    await lease.release()
    (attempt,) = ours._engine("*").attempts.values()
    now = clock()
    attempt.passed_on(Granted(int(now * 1e6), int(now * 1e6), now))
    (await waiting)._give_back()  # at the server another token stands, for all the test did
    await turns()
    assert len(ours._engine("*").lingering) == 0


@pytest.mark.parametrize("what", ["on_connected", "on_listening", "on_moved"])
async def test_whatever_a_recall_may_be_lost_by_ends_it(ours: LockClient, what: str) -> None:
    """Another connection, another subscription, another server."""
    await use(ours.lock("wallet", linger=60.0))
    engine = ours._engine("*")
    if what == "on_moved":
        engine.on_moved(lambda _keys: False)
        await turns()
        assert entry(ours).holder is not None
        engine.on_moved(lambda keys: keys.key == KEY)
    else:
        getattr(engine, what)()
    await turns()
    assert entry(ours).holder is None


async def test_a_lease_that_is_got_before_others_does_not_linger(
    ours: LockClient, theirs: LockClient, clock: ManualClock
) -> None:
    """Who comes into the queue of a dead holder and is served first leaves others behind."""
    async with LockClient.in_memory(share=ours) as dead:
        lost = await dead.lock("wallet", ttl=1.0, auto_renew=False).acquire()
        third = await asked(ours, theirs.lock("wallet"), 1)
        waiters = entry(ours).queue
        (theirs_token,) = waiters
        acquiring = asyncio.create_task(ours.lock("wallet", linger=60.0).acquire())
        with fail_after(5):
            while len(waiters) != 2:
                await asyncio.sleep(0)
        waiters[theirs_token] = waiters.pop(theirs_token)  # ours is first
        await clock.advance(1.5)
        with fail_after(5):
            await (await acquiring).release()
            await (await third).release()
        assert not lost.is_held


async def test_the_answer_tells_that_others_wait(ours: LockClient, theirs: LockClient) -> None:
    """Sent again, as when the first answer was lost, it may find somebody behind its lease."""
    lease = await ours.lock("wallet").acquire()
    replies: list[Any] = []

    async def ask_again() -> None:
        keys, store = lease._process_lease.keys, ours._engine("*").store
        store.acquire(keys, lease.token.encode(), 10_000, 1_000, replies.append)
        await turns()

    await ask_again()
    waiting = await asked(ours, theirs.lock("wallet"), 1)
    await ask_again()
    assert [each.others_wait for each in replies] == [False, True]
    await lease.release()
    await (await waiting).release()


async def test_behind_a_holder_that_cannot_ask_a_name_does_not_linger_for_a_while(
    ours: LockClient, clock: ManualClock
) -> None:
    """A plain ``SET NX`` lock polls, and would find the key there each time."""
    lock = ours.lock("wallet", linger=60.0)
    foreign = entry(ours)
    foreign.holder, foreign.expires_at = b"foreign", clock() + 5.0
    assert await lock.try_acquire() is None
    foreign.holder = None
    await use(lock)
    await turns()
    assert entry(ours).holder is None
    await clock.advance(QUIET_FOR + 0.1)
    await use(lock)
    await turns()
    assert entry(ours).holder is not None


async def test_the_fencing_tokens_of_a_lease_are_used_up_and_reported(ours: LockClient) -> None:
    """After so many uses a new lease begins, above all that were used."""
    lock = ours.lock("wallet", linger=60.0)
    fences = await use(lock, MAX_LOCAL_HANDOFFS + 1)
    assert fences == list(range(fences[0], fences[0] + MAX_LOCAL_HANDOFFS + 1))
    assert ours.linger_counts == (MAX_LOCAL_HANDOFFS, 0, 0)
    (later,) = await use(lock)
    assert later > fences[-1]
    server = cast("MemoryServer", ours._source)
    assert server.counter >= later


async def test_where_the_clock_does_not_cover_hand_offs_nothing_lingers(ours: LockClient) -> None:
    """The server's clock was set back: a fencing token of its own cannot be had here."""
    server = cast("MemoryServer", ours._source)
    server.counter = int(2e6 * 1e6)
    await use(ours.lock("wallet", linger=60.0))
    await turns()
    assert entry(ours).holder is None


async def test_a_plain_lock_on_the_name_uses_it_once(ours: LockClient) -> None:
    """What lingered for another lock is as good; its own release is for good."""
    await use(ours.lock("wallet", linger=60.0))
    await use(ours.lock("wallet"))
    await turns()
    assert entry(ours).holder is None
    assert ours.linger_counts == (1, 0, 0)


async def test_a_lease_that_a_plain_lock_got_does_not_linger(
    ours: LockClient, theirs: LockClient
) -> None:
    """Handed over to a task whose lock lingers: by its token nobody would recall it."""
    await use(ours.lock("wallet", linger=60.0))
    ours._engine("*").lingering.end()
    lease = await ours.lock("wallet").acquire()
    lingering = asyncio.create_task(ours.lock("wallet", linger=60.0).acquire())
    await turns()
    await lease.release()
    await (await lingering).release()
    with fail_after(5):
        await use(theirs.lock("wallet"))
    assert ours.linger_counts == (0, 1, 0)


async def test_a_lock_that_shares_no_lease_recalls_it(ours: LockClient) -> None:
    """It asks Redis for itself, and waits behind what lingers in its own process."""
    await use(ours.lock("wallet", linger=60.0))
    with fail_after(5):
        await use(ours.lock("wallet", local_handoffs=0))
    assert ours.linger_counts == (0, 0, 1)


async def test_who_contends_for_the_name_otherwise_gets_a_new_lease(ours: LockClient) -> None:
    """As who acquires once more because its first lease was over when its turn came."""
    lock = ours.lock("wallet", linger=60.0)
    (fence,) = await use(lock)
    contender, task = lock._contend()
    with fail_after(5):
        lease = await acquire(contender, lock._options, Lease, None, task, None)
    assert lease is not None
    assert lease.fencing_token > fence
    assert ours.linger_counts == (0, 1, 0)
    await lease.release()


async def test_the_next_holder_has_options_of_its_own(ours: LockClient, clock: ManualClock) -> None:
    """Its ``max_hold`` counts from the use, and is none of the next one's."""
    bounded = ours.lock("wallet", linger=60.0, max_hold=1.0)
    await use(bounded)
    await clock.advance(0.5)
    async with bounded.hold() as lease:
        assert lease.validity == pytest.approx(1.0)
    async with ours.lock("wallet", linger=60.0) as lease:
        assert lease.validity > 5.0
    assert ours.linger_counts == (2, 0, 0)


async def test_locks_made_for_each_use_share_it(ours: LockClient) -> None:
    """While it lingers the name is known, though no lock refers to it."""
    for _ in range(4):
        await use(ours.lock("wallet", linger=60.0))
        gc.collect()
    assert ours.linger_counts == (3, 0, 0)


async def test_tasks_share_it_and_hand_it_over(ours: LockClient) -> None:
    """Where two want it at a time it passes from one to the other, with rising tokens."""
    lock = ours.lock("wallet", linger=60.0)
    fences: list[int] = []

    async def task() -> None:
        for _ in range(20):
            async with lock as lease:
                fences.append(lease.fencing_token)
                await asyncio.sleep(0)

    await asyncio.gather(task(), task(), task())
    assert len(fences) == 60
    assert fences == sorted(set(fences))


async def test_a_reentrant_lock_is_entered_again_and_lingers_at_the_outermost_end(
    ours: LockClient,
) -> None:
    """The inner block takes nothing, and gives nothing back."""
    lock = ours.lock("wallet", linger=60.0, reentrant=True)
    await use(lock)
    async with lock as outer, lock as inner:
        assert inner is outer
    await use(lock)
    assert ours.linger_counts == (2, 0, 0)


async def test_closing_the_client_leaves_nothing(clock: ManualClock) -> None:
    """What lingers is released, and its time is looked at no more."""
    async with LockClient.in_memory(clock=clock) as watching:
        async with LockClient.in_memory(share=watching) as client:
            await use(client.lock("wallet", linger=60.0))
            assert entry(watching).holder is not None
        assert entry(watching).holder is None


async def test_a_closed_client_gives_it_to_nobody(ours: LockClient) -> None:
    """Also to a task that waits at its checkpoint meanwhile."""
    async with LockClient.in_memory(share=ours) as client:
        lock = client.lock("wallet", linger=60.0)
        await use(lock)
        client._engine("*").checkpoint.due_at = 0.0
        waiting = asyncio.create_task(lock.acquire())
        await asyncio.sleep(0)
    with pytest.raises(LockError, match="closed"):
        await waiting
    assert entry(ours).holder is None


async def test_a_task_that_is_cancelled_at_its_checkpoint_takes_nothing(ours: LockClient) -> None:
    """The lease lingers on, and the next one uses it."""
    lock = ours.lock("wallet", linger=60.0)
    await use(lock)
    ours._engine("*").checkpoint.due_at = 0.0
    waiting = asyncio.create_task(lock.acquire())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await use(lock)
    assert ours.linger_counts == (1, 0, 0)


async def test_a_waiter_that_leaves_late_does_not_end_it(ours: LockClient) -> None:
    """It was cancelled before the release, and runs behind it."""
    lock = ours.lock("wallet", linger=60.0)
    lease = await lock.acquire()
    waiting = asyncio.create_task(lock.acquire())
    await turns()
    waiting.cancel()
    await lease.release()
    await turns()
    assert entry(ours).holder is not None
    await use(lock)
    assert ours.linger_counts == (1, 0, 0)


async def test_a_loop_that_only_locks_and_unlocks_lets_the_others_run(ours: LockClient) -> None:
    """Each task comes through the event loop, and none is left out."""
    clock = cast("ManualClock", ours._engine("*").clock)
    counts = [0] * 3
    turned = 0

    async def task(number: int) -> None:
        lock = ours.lock(f"n{number}", linger=60.0)
        while turned < 50:
            await use(lock)
            clock._now += 0.00001  # what a use takes
            counts[number] += 1

    async def other() -> None:
        nonlocal turned
        while turned < 50:
            turned += 1
            await asyncio.sleep(0)

    with fail_after(20):
        await asyncio.gather(*(task(number) for number in range(3)), other())
    # 50 turns of half a millisecond, for all together.
    assert 300 < sum(counts) < 3_000
    assert min(counts) > max(counts) / 3


async def test_only_so_many_linger_the_oldest_go_first(ours: LockClient) -> None:
    """Together, so that they leave in one write."""
    for number in range(MOST + 1):
        await use(ours.lock(f"n{number}", linger=60.0))
    await turns()
    lingering = ours._engine("*").lingering
    assert MOST - 100 < len(lingering) <= MOST
    assert entry(ours, b"lock:n0").holder is None
    assert entry(ours, f"lock:n{MOST}".encode()).holder is not None


async def test_a_lease_that_nobody_refers_to_lingers_as_any_other(ours: LockClient) -> None:
    """It was given up by mistake, which is told; the name is free to the others."""
    lock = ours.lock("wallet", linger=60.0)

    async def forget() -> None:
        await lock.acquire()
        gc.collect()
        await turns()

    with pytest.warns(ResourceWarning, match="nobody has the lease"):
        await forget()
    await use(lock)
    assert ours.linger_counts == (1, 0, 0)


async def test_listeners_are_told_where_a_lease_comes_from(ours: LockClient) -> None:
    """From Redis, from a task of this process, or it lingered."""
    told: list[LockEvent] = []
    ours._listeners.add(told.append)
    lock = ours.lock("wallet", linger=60.0)
    lease = await lock.acquire()
    waiting = asyncio.create_task(lock.acquire())
    await turns()
    await lease.release()
    await (await waiting).release()
    await use(lock)
    acquired = [each for each in told if isinstance(each, Acquired)]
    assert [each.source for each in acquired] == ["redis", "local", "lingering"]
    assert len({each.acquisition for each in acquired}) == 3
    handed_over = [each.acquisition for each in told if isinstance(each, HandedOver)]
    assert handed_over == [acquired[1].acquisition]
    kinds = [type(each).__name__ for each in told if each.acquisition == acquired[2].acquisition]
    assert kinds == ["Waiting", "Acquired", "Released"]


async def test_listeners_are_told_what_comes_of_each_lease(
    ours: LockClient, theirs: LockClient, clock: ManualClock
) -> None:
    """Behind the release; if it is asked for in use, at once, and then it does not linger."""
    told = Told()
    ours._listeners.add(told)
    lock = ours.lock("wallet", linger=1.0)
    await use(lock, 2)
    await clock.advance(1.1)
    await use(lock)
    await use(theirs.lock("wallet"))
    async with lock:
        waiting = await asked(ours, theirs.lock("wallet"), 1)
        await turns()
    await (await waiting).release()
    told.check_whole()
    assert told.order == "W1 A1 R1 W2 g1 A2 R2 g2 W3 A3 R3 g3 W4 A4 g4 R4"
    assert [each.outcome for each in told.all(Lingered)] == ["hit", "miss", "recall", "recall"]
    assert [each.lingers for each in told.all(Released)] == [True, True, True, False]
    assert ours.linger_counts == (1, 1, 2)


async def test_one_that_is_found_lost_while_it_lingers_is_a_miss(ours: LockClient) -> None:
    """Nobody uses it again."""
    told = Told()
    ours._listeners.add(told)
    await use(ours.lock("wallet", linger=60.0))
    engine = ours._engine("*")
    (lease,) = engine.lingering._leases
    engine.watchdog.refused(lease, "said the test")
    assert told.only(Lingered).outcome == "miss"
    assert ours.linger_counts == (0, 1, 0)
    assert len(engine.lingering) == 0


async def test_auto_lingers_after_three_leases_that_would_have_been_used_again(
    ours: LockClient, clock: ManualClock
) -> None:
    """Each within the time; one that came later, and all begins anew."""
    lock = ours.lock("wallet", linger="auto")
    for pauses in ([0.0, 0.01, 0.06], [0.01] * 3):
        for pause in pauses:
            await use(lock)
            assert entry(ours).holder is None
            await clock.advance(pause)
    await use(lock)  # the third: it has no token yet that asks for recalls
    assert entry(ours).holder is None
    await use(lock, 5)
    assert ours.linger_counts == (4, 0, 0)
    await clock.advance(0.06)
    assert entry(ours).holder is None


async def test_auto_remembers_names_whose_locks_are_made_for_each_use(ours: LockClient) -> None:
    """For as many as may linger."""
    for _ in range(6):
        await use(ours.lock("wallet", linger="auto"))
        gc.collect()
    assert ours.linger_counts == (1, 0, 0)
    lingering = ours._engine("*").lingering
    for number in range(MOST):
        lingering.arming(b"%d" % number)
    assert not lingering.arming(KEY).armed


@pytest.mark.parametrize(("uses", "stays_armed"), [(WORTH, True), (WORTH - 1, False)])
async def test_a_recall_disarms_auto_unless_it_was_worth_it(
    ours: LockClient, theirs: LockClient, clock: ManualClock, uses: int, stays_armed: bool
) -> None:
    """For a while; then three leases arm it again."""
    lock = ours.lock("wallet", linger="auto")
    await use(lock, 5 + uses)
    assert ours.linger_counts.hits == uses
    await use(theirs.lock("wallet"))
    await use(lock, 5)
    assert (ours.linger_counts.hits > uses) is stays_armed
    if not stays_armed:
        await clock.advance(DISARMED_FOR)
        await use(lock, 2)
        assert ours.linger_counts.hits == uses
        await use(lock, 4)
        assert ours.linger_counts.hits > uses


async def test_auto_costs_next_to_nothing_where_processes_take_turns_at_random(
    ours: LockClient, theirs: LockClient, clock: ManualClock
) -> None:
    """A recall in half a minute at most, but for runs that were worth it."""
    rng = random.Random(15)
    locks = [client.lock("wallet", linger="auto") for client in (ours, theirs)]
    for _ in range(5_000):
        await use(rng.choice(locks))
        await clock.advance(0.01)
    counts = [client.linger_counts for client in (ours, theirs)]
    assert 0 < sum(each.recalls for each in counts) <= 2 * 2 + 6
    assert sum(each.hits for each in counts) < 200


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"linger": -1.0}, "linger must be 0 to"),
        ({"linger": "often"}, "linger must be a number"),
        ({"linger": "auto", "auto_renew": False}, "auto_renew=True"),
        ({"linger": None}, "linger must be a number"),
        ({"linger": 1.0, "auto_renew": False}, "auto_renew=True"),
        ({"linger": 1.0, "local_handoffs": 0}, "local_handoffs above 0"),
    ],
)
async def test_what_cannot_linger_is_refused(
    ours: LockClient, options: dict[str, Any], problem: str
) -> None:
    """By name."""
    with pytest.raises(ValueError, match=problem):
        ours.lock("wallet", **options)
