"""How ours waits: woken, in order, polling for foreign holders only, leaving nothing."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from redis import Redis as BlockingRedis
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, LockError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from aiodistlock import LockClient, LockEvent, add_listener, remove_listener
from aiodistlock.compat import RedisPyLock, token_lock
from aiodistlock.core.clock import ServerClock
from aiodistlock.core.value import token_of
from aiodistlock.engines import shared_engines
from aiodistlock.errors import StoreUnavailable
from aiodistlock.protocol.grant_message import Grant
from aiodistlock.testing.embedded import EmbeddedRedis
from tests.faults.world import PATIENT, SCRIPTS, eventually, load_scripts
from tests.proxy import ChaosProxy, Delay, Do, on
from tests.redis.clients import closing


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has nobody poll behind a holder of ours: only a grant wakes in time."""
    monkeypatch.setattr(token_lock, "_BACKOFF", PATIENT)


def lock(redis: Redis, name: str, timeout: float | None = 10, sleep: float = 0.1) -> RedisPyLock:
    """Make a lock of ours as users do."""
    made = redis.lock(name, timeout, sleep, lock_class=RedisPyLock)
    assert isinstance(made, RedisPyLock)
    return made


async def queued(redis: Redis, name: str, count: int) -> None:
    """Wait until so many wait at Redis."""

    async def length() -> int:
        return int(await redis.zcard(f"aiodistlock:queue:{{{name}}}"))

    await eventually(length, count)


KINDS = {
    "with timeout": (10, None),
    "without timeout": (None, None),
    "with a token": (10, "mine"),
}


@pytest.mark.parametrize(("timeout", "token"), KINDS.values(), ids=KINDS)
@pytest.mark.usefixtures("patient")
async def test_waiters_are_woken_first_come_first_served(
    here: Redis, there: Redis, name: str, timeout: float | None, token: str | None
) -> None:
    """Across clients and tasks, by grants alone; nobody waits for ``sleep`` to be over."""
    served: list[int] = []

    async def visit(number: int, redis: Redis) -> None:
        mine = lock(redis, name, timeout, sleep=60)
        assert await mine.acquire(token=token)
        served.append(number)
        assert await mine.owned()
        assert (await redis.pttl(name) == -1) is (timeout is None)
        await mine.release()

    holder = lock(here, name, timeout)
    assert await holder.acquire(token=token)
    tasks = []
    for number in range(6):
        tasks.append(asyncio.create_task(visit(number, (here, there)[number % 2])))
        await queued(here, name, number + 1)
    await holder.release()
    await asyncio.gather(*tasks)
    assert served == list(range(6))


@pytest.mark.usefixtures("patient")
async def test_a_foreign_holder_is_polled_for_every_sleep_seconds(here: Redis, name: str) -> None:
    """It wakes nobody: its release is noticed all the same, and its ttl is not waited for."""
    await here.set(name, "foreign")
    waiting = asyncio.create_task(lock(here, name, sleep=0.05).acquire())
    await queued(here, name, 1)
    loop = asyncio.get_running_loop()
    released = loop.time()
    await here.delete(name)
    assert await waiting
    assert loop.time() - released < 5.0  # 0.05 s, on a machine that is busy
    await here.delete(name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("held", [False, True], ids=["free", "held"])
async def test_a_cancelled_acquire_leaves_nothing(
    here: Redis, there: Redis, name: str, kind: str, held: bool
) -> None:
    """Cancelled after any number of turns of the loop, until it is too late for that."""
    timeout, token = KINDS[kind]
    holder = lock(there, name)
    await lock(here, name).acquire()  # connects
    await here.delete(name)
    for turns in range(1000):
        if held:
            assert await holder.acquire()
        mine = lock(here, name, timeout)
        acquiring = asyncio.create_task(mine.acquire(token=token))
        for _ in range(turns // 2):
            await asyncio.sleep(0)
        releasing = asyncio.create_task(holder.release()) if held else None
        for _ in range(turns - turns // 2):
            await asyncio.sleep(0)
        acquiring.cancel()
        finished = (await asyncio.gather(acquiring, return_exceptions=True))[0] is True
        if releasing is not None:
            await releasing
        if finished:
            await mine.release()
            break
        assert mine.local.token is None
        await eventually(lambda: here.exists(name, f"aiodistlock:queue:{{{name}}}"), 0)
    assert 2 < turns < 999


@pytest.mark.parametrize("value", [None, "another's"])
async def test_what_ran_out_before_it_was_claimed_is_acquired_again(
    here: Redis, redis_url: str, name: str, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    """A loop that stalls between grant and claim takes the lock from nobody."""
    mine = lock(here, name, None, sleep=0.01)
    let_go = token_lock.Possession.let_go
    stalls = iter([True])

    def stall(possession: token_lock.Possession) -> None:
        let_go(possession)
        if next(stalls, False):
            # As the end of its ttl, and of another's beginning, would.
            with BlockingRedis.from_url(redis_url) as plain:
                plain.delete(name)
                if value is not None:
                    plain.set(name, value, px=100)

    monkeypatch.setattr(token_lock.Possession, "let_go", stall)
    # The very token that another one holds it under.
    assert await mine.acquire(token="another's")
    assert next(stalls, None) is None
    assert await here.pttl(name) == -1
    await mine.release()


async def test_a_late_grant_of_what_is_held_gives_nothing_up(here: Redis, name: str) -> None:
    """Under RESP2 a reply may be faster than the message that says the same."""
    mine = lock(here, name)
    assert await mine.acquire()
    engine = shared_engines(here)._engine("*")
    engine.delivery.on_grant(Grant(1, 1, 10.0, mine.local.token, name.encode()), ServerClock())
    assert await mine.owned()
    await mine.release()


async def test_nothing_in_the_process_looks_after_what_is_held(here: Redis, name: str) -> None:
    """The token is all there is: locks that are never released leave nothing in memory."""
    mine = lock(here, name)
    assert await mine.acquire()
    engine = shared_engines(here)._engine("*")
    assert not engine.watchdog.leases()
    assert not engine.holders
    assert [*engine.let_go] == [token_of(mine.local.token)]
    del mine
    await asyncio.sleep(0)  # the loop lets go of the turn in which the grant came
    assert not engine.let_go
    await here.delete(name)


async def test_a_task_that_is_granted_the_shared_object_keeps_its_token(
    here: Redis, name: str
) -> None:
    """The release that handed it over forgets its own token, not that of the next."""
    shared = lock(here, name)
    inside = 0

    async def visit() -> None:
        nonlocal inside
        for _ in range(20):
            async with shared:
                inside += 1
                assert inside == 1
                await asyncio.sleep(0)
                inside -= 1

    await asyncio.gather(*(visit() for _ in range(4)))
    assert shared.local.token is None


async def test_a_cancelled_release_is_done_or_can_be_repeated(here: Redis, name: str) -> None:
    """After any number of turns of the loop the token tells which."""
    mine = lock(here, name, None)
    for turns in range(30):
        assert await mine.acquire()
        releasing = asyncio.create_task(mine.release())
        for _ in range(turns):
            await asyncio.sleep(0)
        releasing.cancel()
        await asyncio.gather(releasing, return_exceptions=True)
        if mine.local.token is not None:
            await mine.release()
        assert not await mine.locked()


@pytest.fixture
async def lossy(proxy: ChaosProxy, redis: Redis) -> AsyncIterator[Redis]:
    """A client behind a proxy."""
    await load_scripts(redis)
    proxy.script_names = SCRIPTS
    async with closing(Redis.from_url(proxy.url)) as client:
        yield client


@pytest.mark.parametrize("script", ["ACQUIRE", "CLAIM", "MOVE_END", "RENEW", "RELEASE"])
async def test_a_lost_reply_changes_nothing(
    proxy: ChaosProxy, lossy: Redis, redis: Redis, name: str, script: str
) -> None:
    """What is sent again has the effect of exactly one, added time included."""
    for timeout, token in KINDS.values():
        mine = lock(lossy, name, timeout)
        for number in (1, 2):
            proxy.counts.clear()
            proxy.rules = [on("reply", script, Do.CUT_BEFORE, number=number)]
            # Well within the ttl: nobody's end is waited for, be it one's own.
            assert await mine.acquire(token=token, blocking_timeout=5)
            assert await redis.get(name) == mine.local.token
            if timeout is not None:
                assert await mine.extend(10)
                assert 15_000 < await redis.pttl(name) <= 20_000
                assert await mine.reacquire()
            await mine.release()
            assert not await mine.locked()
            assert mine.local.token is None


async def test_a_client_that_is_gone_before_it_claims_blocks_nobody_for_ever(
    proxy: ChaosProxy, lossy: Redis, here: Redis, name: str
) -> None:
    """A lock without ttl is first granted with one."""
    proxy.script_names = SCRIPTS
    proxy.rules = [on("request", "CLAIM", Do.DROP)]
    gone = asyncio.create_task(lock(lossy, name, None).acquire())
    await proxy.seen("request", "CLAIM")
    assert await lock(here, name).locked()
    assert 0 < await here.pttl(name) <= token_lock.CLAIM_WITHIN * 1000
    proxy.black_hole()
    next_one = lock(here, name, None)
    assert await next_one.acquire(blocking_timeout=token_lock.CLAIM_WITHIN + 5)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    assert await next_one.owned()
    await next_one.release()


async def test_what_cannot_be_a_lock_is_refused_before_any_io(redis: Redis) -> None:
    """ValueError or TypeError, and it says what is wrong."""
    refused: list[tuple[type[Exception], str, Callable[[], object]]] = [
        (ValueError, "hash tag", lambda: RedisPyLock(redis, "a{}b")),
        (ValueError, "hash tag", lambda: RedisPyLock(redis, "a}b")),
        (ValueError, "must not be empty", lambda: RedisPyLock(redis, "")),
        (ValueError, "UTF-8", lambda: RedisPyLock(redis, b"\xff")),
        (ValueError, "timeout must be", lambda: RedisPyLock(redis, "n", -1)),
        (ValueError, "timeout must be", lambda: RedisPyLock(redis, "n", float("nan"))),
        (ValueError, "timeout must be", lambda: RedisPyLock(redis, "n", float("inf"))),
        (ValueError, "sleep must be", lambda: RedisPyLock(redis, "n", sleep=-1)),
        (
            ValueError,
            "timeout .*sleep .*must not be empty",
            lambda: RedisPyLock(redis, "", -1, sleep=-1),
        ),
        (TypeError, "blocking", lambda: RedisPyLock(BlockingRedis(), "n")),
        (TypeError, "as redis.lock", lambda: RedisPyLock([redis], "n")),
        (TypeError, "as redis.lock", lambda: RedisPyLock(LockClient(redis), "n")),
    ]
    for error, message, use in refused:
        with pytest.raises(error, match=message):
            use()


async def test_a_timeout_that_is_changed_later_applies_to_the_next_acquire(
    here: Redis, name: str
) -> None:
    """The attributes are redis-py's, and may be set; badly, too."""
    mine = lock(here, name)
    mine.timeout = 20
    assert await mine.acquire()
    assert 15_000 < await here.pttl(name) <= 20_000
    await mine.release()
    mine.timeout = -1
    with pytest.raises(ValueError, match="timeout must be"):
        await mine.acquire()


async def test_reacquiring_for_no_time_is_refused(here: Redis, name: str) -> None:
    """A timeout of 0 is none: redis-py would delete the key."""
    mine = lock(here, name, 0)
    assert await mine.acquire()
    with pytest.raises(LockError, match="with no timeout"):
        await mine.reacquire()
    assert await mine.owned()
    await mine.release()


async def test_an_unreachable_redis_is_redis_pys_error(embedded_redis: EmbeddedRedis) -> None:
    """While it is down, and when it hangs: within the time to wait and a second."""
    async with closing(Redis.from_url(embedded_redis.url)) as redis:
        mine = lock(redis, "n")
        assert await mine.acquire()
        embedded_redis.freeze()
        other = lock(redis, "n")
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(RedisTimeoutError):
            await other.acquire(blocking_timeout=0.1)
        assert 1.0 < loop.time() - began < 5.0
        embedded_redis.thaw()
        assert not await other.acquire(blocking_timeout=0.1)


@pytest.mark.parametrize(
    ("cause", "raised"),
    [
        (ResponseError("WRONGTYPE"), ResponseError),
        (RedisTimeoutError("no answer"), RedisTimeoutError),
        (TimeoutError("no answer"), RedisTimeoutError),
        (OSError("refused"), RedisConnectionError),
    ],
    ids=repr,
)
def test_each_cause_becomes_redis_pys_error(
    redis_url: str, cause: Exception, raised: type[RedisError]
) -> None:
    """Its own errors as they are, all others by what they say."""
    mine = lock(Redis.from_url(redis_url), "n")
    with pytest.raises(raised) as caught, mine._as_redis_py():
        raise StoreUnavailable("n", [cause])
    assert type(caught.value) is raised


async def test_a_wrong_password_is_redis_pys_error(redis_url: str, name: str) -> None:
    """At once, whatever time there is to wait."""
    async with closing(Redis.from_url(redis_url, username="nobody", password="x")) as redis:
        with pytest.raises(AuthenticationError):
            await lock(redis, name).acquire()


async def test_a_first_answer_that_takes_longer_than_the_time_to_wait_counts(
    proxy: ChaosProxy, lossy: Redis, name: str
) -> None:
    """``blocking_timeout`` is for the wait behind others, as redis-py's: a free lock is had."""
    proxy.rules = [on("reply", "ACQUIRE", Delay(0.1))]
    mine = lock(lossy, name)
    assert await mine.acquire(blocking_timeout=0.02)
    assert not await lock(lossy, name).acquire(blocking_timeout=0.02)
    await mine.release()


async def test_a_closed_client_is_redis_pys_error(here: Redis, name: str) -> None:
    """Who waits is told by an error that its users catch."""
    mine = lock(here, name)
    assert await mine.acquire()
    waiting = asyncio.create_task(lock(here, name).acquire())
    await queued(here, name, 1)
    await shared_engines(here).aclose()
    with pytest.raises(RedisError, match="closed"):
        await waiting
    assert await mine.owned()  # by a new connection: the token is all there is
    await mine.release()


async def test_listeners_are_told_no_story_without_an_end(here: Redis, name: str) -> None:
    """Nobody here may ever release it: for listeners it ends as possession begins."""
    told: list[str] = []

    def listener(event: LockEvent) -> None:
        told.append(type(event).__name__)

    add_listener(listener)
    try:
        held = lock(here, name)
        assert await held.acquire()
        await held.release()
    finally:
        remove_listener(listener)
    assert told == ["Waiting", "Acquired", "Released"]


async def test_behind_a_crowd_it_asks_rarely_and_takes_over_though_all_of_that_are_dead(
    here: Redis, name: str
) -> None:
    """Also behind a foreign holder, for whom only the first few ask every ``sleep`` seconds."""
    await here.set(name, "foreign", px=2_000)
    crowd = {f"1000 nobody:{number} secret token:{number}": number for number in range(2000)}
    await here.zadd(f"aiodistlock:queue:{{{name}}}", crowd)
    waiting = asyncio.create_task(lock(here, name, sleep=0.05).acquire())
    await queued(here, name, 2001)
    asked = await _asked(here)
    await asyncio.sleep(0.7)  # real time: it is the pauses that are meant
    assert await _asked(here) - asked <= 1
    async with asyncio.timeout(2.0 + 1.0 + 1.0):  # a second of the promise's, one to be busy in
        assert await waiting
    await here.delete(name)


async def _asked(redis: Redis) -> int:
    return int((await redis.info("commandstats"))["cmdstat_evalsha"]["calls"])
