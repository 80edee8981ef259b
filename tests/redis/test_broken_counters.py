"""What somebody else wrote to the keys beside a lock: fences go on rising, the lock goes."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

import pytest
import redis.asyncio as redis_asyncio
from anyio import fail_after
from redis.exceptions import ResponseError

from aiodistlock import AsyncLock, LockClient, StoreUnavailable
from aiodistlock.compat import RedisPyLock
from aiodistlock.engines import shared_engines
from aiodistlock.protocol import scripts
from tests.faults.world import client, eventually
from tests.redis.driver import QUEUE_TTL, TTL, Inbox, Reply, Scripts, address

BROKEN = (
    *("inf", "-inf", "nan", "infinity", "0x10", "1e300", "1e15", "words", ""),
    *(
        str(2**53),
        str(2**53 + 2),
        str(2**64),
        "9" * 400,
        "-5",
        f"-{2**53 + 1}",
        "1.5",
        " 7",
        "7  ",
        "7 ",
        "7 before",
        "behind",
    ),
    *("1_000", "+7", "7\n", "\x00\xff", "٣", "x" * 10_000),
)

SOUND = ("0", "5", "5 behind", "0000000000000007", str(2**53 - 10_000))


@pytest.fixture
def batched() -> bool:
    """In a batch another item may be the one that finds it: see test_batch_script.py."""
    return False


def _keep(lock: Scripts, inbox: str) -> Reply:
    del inbox
    return lock.run(scripts.KEEP, "a", TTL, lock.server_us, 0)


OPERATIONS: dict[str, Callable[[Scripts, str], Reply]] = {
    "acquire anew": lambda lock, _: lock.acquire("a"),
    "pass_on": lambda lock, inbox: lock.pass_on("a", "a2", inbox),
    "release": lambda lock, _: lock.release("a", lock.server_us),
    "release_alone": lambda lock, _: lock.release_alone("a", lock.server_us),
    "abandon": lambda lock, inbox: lock.abandon("a", inbox),
    "force_release": lambda lock, _: lock.force_release("a"),
    "keep": _keep,
    "raise": lambda lock, _: lock.run(scripts.RAISE, lock.server_us),
    "unvote": lambda lock, inbox: lock.run(scripts.UNVOTE, "a", lock.server_us, address(inbox)),
}


def _mended(lock: Scripts, operation: Callable[[], Reply]) -> Reply:
    """Run what finds a broken counter, and again as a client does; return that answer."""
    before = (lock.holder, lock.waiters)
    with pytest.raises(ResponseError, match=r"^BADFENCE aiodistlock:fence:.* held '") as told:
        operation()
    assert len(str(told.value)) < 200
    assert (lock.holder, lock.waiters) == before, "nothing is done but to drop the counter"
    assert not lock.command("EXISTS", lock.fence)
    return operation()


@pytest.mark.parametrize("broken", BROKEN)
def test_a_free_lock_with_a_broken_counter_is_granted_by_the_clock(
    lock: Scripts, broken: str
) -> None:
    """It is told first; then the fence is the server's time, and stands at the counter."""
    _, fence, _ = lock.acquire("a")
    lock.release("a")
    lock.command("SET", lock.fence, broken)
    code, newer, now = _mended(lock, lambda: lock.acquire("b"))
    assert code == "GRANTED"
    assert fence < newer == now == lock.counter < 2**53


@pytest.mark.parametrize("sound", SOUND)
def test_a_counter_that_somebody_moved_is_followed(lock: Scripts, sound: str) -> None:
    """Any integer below 2^53 is a counter, and the next token is above it."""
    lock.command("SET", lock.fence, sound)
    code, fence, now = lock.acquire("a")
    assert code == "GRANTED"
    assert now <= fence < 2**53
    assert int(sound.removesuffix(" behind")) < fence


@pytest.mark.parametrize("broken", ["inf", "words", str(2**53)])
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_no_operation_goes_by_a_broken_counter(
    lock: Scripts, inbox: Inbox, operation: Callable[[Scripts, str], Reply], broken: str
) -> None:
    """Each tells, and done again leaves a counter from which tokens rise, or none."""
    _, fence, _ = lock.acquire("a")
    lock.acquire("b", inbox.channel)
    lock.command("SET", lock.fence, broken)
    _mended(lock, lambda: operation(lock, "inbox:nobody"))
    assert lock.counter == 0 or fence < lock.counter < 2**53
    fences = [int(message.split(" ")[0]) for message in inbox.messages()]
    assert all(fence < each < 2**53 for each in fences if each)


@pytest.mark.parametrize("broken", BROKEN)
def test_a_vote_by_a_broken_counter_is_mended(lock: Scripts, broken: str) -> None:
    """On a node of a quorum the proposal counts, as on one without a counter."""
    lock.command("SET", lock.marker, "0")
    lock.command("SET", lock.fence, broken)
    proposed = lock.server_us + 10**6
    args = ("a", TTL, proposed, "", QUEUE_TTL, 60_000_000)
    assert _mended(lock, lambda: lock.run(scripts.VOTE, *args))[:2] == ("GRANTED", proposed)


def test_records_that_are_none_bar_nobody(lock: Scripts, inbox: Inbox) -> None:
    """What a stranger put into the queue is dropped; those behind it get the lock."""
    lock.acquire("a")
    odd = (
        "",
        "words",
        "0 inbox secret zero",
        "-1 inbox secret t",
        "5000 inbox t",
        "\xff \xff \xff t",
    )
    for number, record in enumerate(odd):
        lock.command("ZADD", lock.queue, number, record)
    lock.acquire("b", inbox.channel)
    assert lock.release("a") == ("DONE", 1)
    assert (lock.holder, inbox.grants()) == ("b", ["b"])


@pytest.mark.parametrize("companion", ["fence", "queue"])
@pytest.mark.parametrize("kind", ["string", "list", "hash"])
def test_whatever_stands_beside_it_a_lock_can_be_given_up_and_renewed(
    lock: Scripts, companion: str, kind: str
) -> None:
    """A wrong type keeps nobody from releasing, and ends nobody's lease."""
    writes: dict[str, tuple[str | int, ...]] = {
        "string": ("SET", "words"),
        "list": ("RPUSH", "x"),
        "hash": ("HSET", "x", "y"),
    }
    command, *rest = writes[kind]
    releases: list[Callable[[], Reply]] = [
        lambda: lock.release("a"),
        lambda: lock.abandon("a", "inbox:a"),
        lambda: lock.run(scripts.UNVOTE, "a", 0, address("inbox:a")),
        lambda: lock.release_alone("a"),
    ]
    for release in releases:
        lock.remove()
        lock.acquire("a", ttl=5_000)
        key = getattr(lock, companion)
        lock.command("DEL", key)
        lock.command(command, key, *rest)
        assert lock.renew("a") == lock.renew_alone("a") == ("DONE", 0)
        assert lock.remaining() > 5_000
        answer: Reply = ()
        with suppress(ResponseError):  # a counter of words is told first, if it is looked at
            answer = release()
        assert (answer or release())[0] == "DONE"
        assert lock.holder is None


@pytest.mark.parametrize("broken", ["inf", "words", "-5", str(2**53)])
async def test_a_broken_counter_is_told_and_nobody_waits_for_it(
    redis: redis_asyncio.Redis,
    redis_url: str,
    namespace: str,
    broken: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Free, held, waited for, handed over: fences rise, and each time there is a warning."""
    caplog.set_level(logging.WARNING, "aiodistlock")
    fence, fences, told = "aiodistlock:fence", [], 0

    async def write() -> None:
        nonlocal told
        assert caplog.text.count("a fence counter was broken") == told
        await redis.set(fence, broken)
        told += 1

    with fail_after(20):
        async with client(redis_url, protocol=2) as one, client(redis_url) as two:
            here, there = (each.lock("n", namespace=namespace) for each in (one, two))
            for _ in range(3):
                await write()
                async with here as lease:
                    fences.append(lease.fencing_token)
            lease = await here.acquire()
            fences.append(lease.fencing_token)
            waiting = asyncio.create_task(there.acquire())

            async def queued() -> int:
                return len((await here.inspect()).waiters)

            await eventually(queued, 1)
            await write()
            await lease.release()
            lease = await waiting
            fences.append(lease.fencing_token)
            await write()
            await lease.release()
            async with here as lease:
                fences.append(lease.fencing_token)
    assert fences == sorted(set(fences))
    assert fences[-1] < 2**53
    assert f"{fence} held '{broken}'" in caplog.text


@pytest.mark.parametrize("companion", ["fence", "queue"])
async def test_a_wrong_type_is_one_clear_error(
    redis: redis_asyncio.Redis, namespace: str, companion: str
) -> None:
    """At once, with what to do; and no key is taken."""
    async with LockClient(redis) as locks:
        lock = locks.lock("n", namespace=namespace)
        queue = f"aiodistlock:queue:{{{namespace}n}}"
        wrong = "aiodistlock:fence" if companion == "fence" else queue
        await redis.delete(wrong)
        await redis.rpush(wrong, "x")
        with fail_after(5), pytest.raises(StoreUnavailable, match=r"WRONGTYPE.*delete that"):
            await lock.acquire()
        assert not await redis.exists(f"{namespace}n")
        theirs = RedisPyLock(redis, f"{namespace}n", timeout=5)
        with fail_after(5), pytest.raises(ResponseError, match="WRONGTYPE"):
            await theirs.acquire()
        await shared_engines(redis).aclose()
    assert not await redis.exists(f"{namespace}n")
    await redis.delete(wrong)


async def test_a_body_goes_on_beside_a_queue_that_is_none(
    redis: redis_asyncio.Redis, namespace: str
) -> None:
    """Renewals do not need it; and the release deletes the key."""
    async with LockClient(redis) as locks:
        lock: AsyncLock = locks.lock("n", ttl=0.3, namespace=namespace)
        with fail_after(5):
            async with lock as lease:
                await redis.set(f"aiodistlock:queue:{{{namespace}n}}", "x")
                await asyncio.sleep(0.7)  # two ttls: what renews it is the watchdog
                lease.check()
        await eventually(lambda: redis.exists(f"{namespace}n"), 0)
    await redis.delete(f"aiodistlock:queue:{{{namespace}n}}")
