"""Races between messages, told one by one: each needs its own order of frames."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
import redis.asyncio as redis_asyncio

from aiodistlock import AsyncLock, Lease, LeaseLost, LockClient, LockError
from aiodistlock.connection import silence
from aiodistlock.core.value import read_value, value_of
from tests.faults.world import (
    EAGER,
    PATIENT,
    SCRIPTS,
    client,
    eventually,
    nothing_left,
    waiters,
)
from tests.proxy import ChaosProxy, Do, Frame, Hold, Repeat, on

TTL = 30.0


@pytest.fixture(params=[3, 2], ids=["resp3", "resp2"])
async def here(named: ChaosProxy, request: pytest.FixtureRequest) -> AsyncIterator[LockClient]:
    """A client behind the proxy that passes on at each release, if anybody waits."""
    made = client(named.url, protocol=request.param, handoff_span=0.0)
    yield made
    await made.aclose()


@pytest.fixture
def soon_suspicious(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence on an open connection is found after five seconds: long, for a test."""
    monkeypatch.setattr(silence, "ANSWER_WITHIN", 0.2)


@pytest.fixture
async def there(redis_url: str) -> AsyncIterator[LockClient]:
    """A client that nothing happens to."""
    made = client(redis_url)
    yield made
    await made.aclose()


async def _wait_for(
    lock: AsyncLock, redis: redis_asyncio.Redis, space: str, at: int
) -> "asyncio.Task[Lease]":
    task = asyncio.create_task(lock.acquire())
    await eventually(lambda: waiters(redis, space, "n"), at)
    return task


async def test_a_claim_in_flight_when_the_lock_is_passed_on_and_both_are_sent_again(
    here: LockClient,
    there: LockClient,
    named: ChaosProxy,
    redis: redis_asyncio.Redis,
    namespace: str,
) -> None:
    """The claim's answer, "somebody else's", is about a lease passed on: nobody is lost."""
    ours = here.lock("n", ttl=TTL, namespace=namespace, backoff=EAGER)
    theirs = there.lock("n", ttl=TTL, namespace=namespace, backoff=EAGER, local_handoffs=0)
    fences = []
    lease = await theirs.acquire()
    first = await _wait_for(ours, redis, namespace, 1)
    second = asyncio.create_task(ours.acquire())
    third = await _wait_for(theirs, redis, namespace, 2)
    answer = asyncio.Event()
    named.rules = [on("reply", "RENEW", Hold(answer)), on("reply", "PASS_ON", Hold(answer))]
    await lease.release()
    lease = await first
    fences.append(lease.fencing_token)
    releasing = asyncio.create_task(lease.release())
    await named.seen("request", "PASS_ON")
    await eventually(lambda: _holder(redis, namespace), (await third).token)
    named.rules = []
    await named.cut()
    answer.set()
    await named.seen("reply", "PASS_ON")
    await releasing
    await ours.inspect()  # its answer comes behind theirs
    assert len(here._engine("n").attempts) == 1
    fences.append((await third).fencing_token)
    await (await third).release()
    lease = await second
    fences.append(lease.fencing_token)
    assert await _holder(redis, namespace) == lease.token
    await lease.release()
    assert fences == sorted(set(fences))
    await nothing_left(redis, namespace)


async def _holder(redis: redis_asyncio.Redis, namespace: str) -> str | None:
    found: Any = await redis.get(f"{namespace}n")
    return None if found is None else read_value(found).token.decode()


@pytest.mark.parametrize("here", [2], indirect=True)
async def test_a_late_grant_message_does_not_release_a_lease_that_is_being_passed_on(
    named: ChaosProxy,
    here: LockClient,
    there: LockClient,
    redis: redis_asyncio.Redis,
    namespace: str,
) -> None:
    """Under RESP2 a message may come long after the answer that granted the same lease."""
    ours = here.lock("n", ttl=TTL, namespace=namespace, backoff=EAGER)
    theirs = await there.lock("n", ttl=TTL, namespace=namespace).acquire()
    first = await _wait_for(ours, redis, namespace, 1)
    second = asyncio.create_task(ours.acquire())
    message, answer = asyncio.Event(), asyncio.Event()
    named.rules = [on("push", "MESSAGE", Hold(message)), on("reply", "PASS_ON", Hold(answer))]
    await theirs.release()
    lease = await first  # by its own request
    await lease.release()
    await named.seen("reply", "PASS_ON")
    message.set()
    # Real time: that no request follows the message can only be told by waiting.
    await asyncio.sleep(0.1)
    answer.set()
    lease = await second
    assert await _holder(redis, namespace) == lease.token
    await lease.release()
    await nothing_left(redis, namespace)


@pytest.mark.parametrize("number", [1, 7, 50])
@pytest.mark.parametrize("action", [Repeat(2), Do.DROP, Do.CUT_BEFORE], ids=str)
async def test_a_reply_too_many_or_too_few_shifts_no_other_reply(  # noqa: PLR0917 - fixtures come by name
    named: ChaosProxy,
    here: LockClient,
    redis: redis_asyncio.Redis,
    namespace: str,
    number: int,
    action: Repeat | Do,
    soon_suspicious: None,
) -> None:
    """Fifty requests in flight: each lease is the one that Redis has under its name."""
    locks = [here.lock(f"n{i}", ttl=TTL, namespace=namespace, backoff=EAGER) for i in range(50)]
    await (await locks[0].acquire()).release()
    named.counts.clear()
    named.rules = [on("reply", "ACQUIRE", action, number=number)]
    acquiring = [asyncio.create_task(lock.acquire()) for lock in locks]
    leases = await asyncio.gather(*acquiring)
    for i, lease in enumerate(leases):
        value = value_of(lease.token.encode(), lease.fencing_token)
        assert await redis.get(f"{namespace}n{i}") == value
    await asyncio.gather(*(lease.release() for lease in leases))
    await nothing_left(redis, namespace)


async def test_an_extension_to_less_counts_from_the_request_also_if_its_answer_is_lost(
    named: ChaosProxy,
    here: LockClient,
    there: LockClient,
    redis: redis_asyncio.Redis,
    namespace: str,
) -> None:
    """Nobody else gets in while the lease is believed to be held."""
    lease = await here.lock("n", ttl=TTL, namespace=namespace, auto_renew=False).acquire()
    answer = asyncio.Event()
    named.rules = [on("reply", "RENEW", Hold(answer))]
    extending = asyncio.create_task(lease.extend(0.3))
    await named.seen("reply", "RENEW")
    extending.cancel()
    await asyncio.gather(extending, return_exceptions=True)
    theirs = await there.lock("n", ttl=TTL, namespace=namespace, backoff=EAGER).acquire(timeout=5)
    assert not lease.is_held
    with pytest.raises(LeaseLost):
        lease.check()
    answer.set()
    await theirs.release()
    await nothing_left(redis, namespace)


@pytest.mark.parametrize("held", [False, True], ids=["free", "held"])
async def test_a_black_hole_delays_nobody_for_longer_than_it_lasts(  # noqa: PLR0917 - fixtures come by name
    named: ChaosProxy,
    here: LockClient,
    there: LockClient,
    redis: redis_asyncio.Redis,
    namespace: str,
    held: bool,
    soon_suspicious: None,
) -> None:
    """An acquire that meets a black hole gets its lock soon after the hole has gone."""
    lock = here.lock("n", ttl=2.0, namespace=namespace, backoff=EAGER)
    await (await lock.acquire()).release()
    theirs = await there.lock("n", ttl=TTL, namespace=namespace).acquire() if held else None
    waiting = asyncio.create_task(lock.acquire())
    if theirs is not None:
        await eventually(lambda: waiters(redis, namespace, "n"), 1)
    named.black_hole()
    if theirs is not None:
        await theirs.release()
    # Real time: the request, or the grant, is swallowed meanwhile.
    await asyncio.sleep(0.1)
    await named.accept()
    lease = await asyncio.wait_for(waiting, 5)
    await lease.release()
    await nothing_left(redis, namespace)


@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_connection_cut_at_any_frame_of_its_handshake_is_made_again(
    named: ChaosProxy, redis: redis_asyncio.Redis, namespace: str, protocol: int
) -> None:
    """Also one that is cut behind its last answer, before anything else was sent."""
    for number in range(12):
        seen = iter(range(1000))

        def cut(frame: Frame, number: int = number) -> Do | None:
            return Do.CUT_AFTER if frame.kind == "reply" and next(seen) == number else None  # noqa: B023

        named.rules = [cut]
        made = client(named.url, protocol=protocol)
        lock = made.lock("n", ttl=TTL, namespace=namespace, backoff=EAGER)
        lease = await lock.acquire(timeout=5)
        await lease.release()
        await made.aclose()
    await nothing_left(redis, namespace)


async def test_an_extension_that_a_release_overtakes_ends(
    here: LockClient, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """Extend and release of one lease, by two tasks in one turn: neither hangs."""
    lease = await here.lock("n", ttl=TTL, namespace=namespace).acquire()
    both = asyncio.gather(lease.extend(5.0), lease.release(), return_exceptions=True)
    extended, released = await asyncio.wait_for(both, 3)
    assert released is None
    assert extended is None or isinstance(extended, LockError)
    await nothing_left(redis, namespace)


@pytest.mark.parametrize("what", ["release", "extend", "inspect"])
async def test_closing_the_client_ends_what_others_await_with_an_error_of_ours(
    named: ChaosProxy, here: LockClient, redis: redis_asyncio.Redis, namespace: str, what: str
) -> None:
    """Neither a hang nor a cancellation that nobody asked for."""
    lock = here.lock("n", ttl=TTL, namespace=namespace)
    lease = await lock.acquire()
    named.rules = [lambda frame: Do.DROP if frame.name in SCRIPTS.values() else None]
    operations: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
        "release": lease.release,
        "extend": lambda: lease.extend(9),
        "inspect": lock.inspect,
    }
    operation = asyncio.create_task(operations[what]())
    await named.seen("request", {"extend": "RENEW"}.get(what, what.upper()))
    await here.aclose()
    with pytest.raises(LockError):
        await asyncio.wait_for(operation, 10)
    await redis.delete(f"{namespace}n")


async def test_a_lease_that_nobody_polls_for_is_handed_over_though_the_subscription_was_cut(
    named: ChaosProxy,
    here: LockClient,
    there: LockClient,
    redis: redis_asyncio.Redis,
    namespace: str,
) -> None:
    """Who listens again asks again: a cut subscription costs a reconnection, no poll."""
    theirs = await there.lock("n", ttl=TTL, namespace=namespace).acquire()
    lock = here.lock("n", ttl=TTL, namespace=namespace, backoff=PATIENT)
    waiting = await _wait_for(lock, redis, namespace, 1)
    await named.refuse()
    await named.cut()
    await theirs.release()
    await eventually(lambda: waiters(redis, namespace, "n"), 0)
    await named.accept()
    lease = await asyncio.wait_for(waiting, 5)
    await lease.release()
    await nothing_left(redis, namespace)


async def test_a_grant_that_overtakes_the_first_answer_is_not_lost(
    named: ChaosProxy, there: LockClient, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """Under RESP 2, before any answer told the server's clock: it is asked for once more."""
    options: dict[str, Any] = {"ttl": TTL, "namespace": namespace, "backoff": PATIENT}
    answer = asyncio.Event()
    named.rules = [on("reply", "ACQUIRE", Hold(answer), number=2)]  # the first was not queued
    async with client(named.url, protocol=2) as here:
        holder = await there.lock("n", **options).acquire()
        waiting = await _wait_for(here.lock("n", **options), redis, namespace, 1)
        granted = named.counts["push", "MESSAGE"]
        await holder.release()
        while named.counts["push", "MESSAGE"] == granted:
            await asyncio.sleep(0.005)
        answer.set()
        lease = await asyncio.wait_for(waiting, 5.0)
        await lease.release()
