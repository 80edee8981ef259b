"""What the network brings of a connection that was given up takes no effect any more."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import anyio
import pytest
import redis.asyncio as redis_asyncio
from redis.asyncio import Redis

from aiodistlock import AcquireTimeout, AsyncLock, LeaseLost, LockClient
from aiodistlock.compat import RedisPyLock
from aiodistlock.connection.pipe import Pipe
from aiodistlock.deployments.single.store import SingleStore
from aiodistlock.testing.embedded import EmbeddedRedis
from tests.faults.world import PATIENT, SCRIPTS, client, eventually, load_scripts, waiters
from tests.late import Straggler, stale
from tests.proxy import ChaosProxy

pytestmark = pytest.mark.bounded(60)

NO_CLIENT = "on >secret ~* &* +@all -client"


@dataclass
class Line:
    """Two clients, one of them behind a proxy, and the server that both use."""

    proxy: ChaosProxy
    redis: redis_asyncio.Redis
    here: LockClient
    there: LockClient

    def lock(self, source: LockClient, **options: Any) -> AsyncLock:
        """Build a lock that only a grant wakes in time."""
        return source.lock("n", ttl=20.0, backoff=PATIENT, **options)

    async def ends_in(self) -> float:
        """Return the remaining seconds at the key, to the second."""
        return round(await self.redis.pttl("lock:n") / 1000)


@pytest.fixture(params=[3, 2], ids=["resp3", "resp2"])
async def line(
    embedded_redis: EmbeddedRedis, request: pytest.FixtureRequest
) -> AsyncIterator[Line]:
    """Clients that may not use CLIENT, their connections and scripts warm."""
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(redis_asyncio.from_url(embedded_redis.url))
        await redis.execute_command("ACL", "SETUSER", "locks", *NO_CLIENT.split())  # type: ignore[no-untyped-call, unused-ignore]
        await load_scripts(redis)
        proxy = await stack.enter_async_context(ChaosProxy.before(embedded_redis.url))
        proxy.script_names = SCRIPTS
        access = {"protocol": request.param, "username": "locks", "password": "secret"}
        here = await stack.enter_async_context(client(proxy.url, handoff_span=0.0, **access))
        there = await stack.enter_async_context(client(embedded_redis.url, **access))
        line = Line(proxy, redis, here, there)
        # Each has heard its inbox once: nobody queues without.
        for one, other in ((here, there), (there, here)):
            lease = await line.lock(one).acquire()
            waiting = asyncio.create_task(line.lock(other).acquire(timeout=10.0))
            await eventually(lambda: waiters(redis, "lock:", "n"), 1)
            await lease.release()
            await (await waiting).release()
        yield line


async def test_a_late_pass_on_gives_away_no_lease_that_was_kept(line: Line) -> None:
    """Lost with one connection, late on the next, done over a third: then it is void."""
    late = Straggler(line.proxy, "PASS_ON", lost_before=1)
    lease = await line.lock(line.here).acquire()
    waiting = asyncio.create_task(line.lock(line.here).acquire())
    await asyncio.sleep(0)  # it stands behind us
    await lease.release()  # the span is 0: to whoever waits at Redis, and nobody does
    await late.kept()
    kept = await waiting
    theirs = asyncio.create_task(line.lock(line.there).acquire())
    await eventually(lambda: waiters(line.redis, "lock:", "n"), 1)
    await late.arrives()
    assert await line.redis.get("lock:n") == kept._process_lease.value
    assert await stale(line.redis) == 1
    kept.check()
    await kept.release()
    await (await theirs).release()


@pytest.mark.parametrize(("late_ttl", "ttl"), [(0.3, 50.0), (50.0, 5.0)])
async def test_a_late_extend_undoes_no_later_one(line: Line, late_ttl: float, ttl: float) -> None:
    """Neither does it shorten what was prolonged, nor prolong what was shortened."""
    lease = await line.lock(line.here, auto_renew=False).acquire()
    late = Straggler(line.proxy, "RENEW")
    extending = asyncio.create_task(lease.extend(late_ttl))
    await late.kept()
    await extending
    await lease.extend(ttl)
    await late.arrives()
    assert await line.ends_in() == ttl
    assert await stale(line.redis) == 1
    await lease.release()


async def test_a_late_acquire_takes_a_free_lock_for_nobody(line: Line) -> None:
    """Sent again it was granted, and released; then the first copy comes."""
    late = Straggler(line.proxy, "ACQUIRE")
    acquiring = asyncio.create_task(line.lock(line.here).acquire())
    await late.kept()
    await (await acquiring).release()
    await late.arrives()
    assert await line.redis.exists("lock:n") == 0
    assert await stale(line.redis) == 1


async def test_an_acquire_that_was_given_up_takes_nothing_when_it_is_late(line: Line) -> None:
    """It is not sent again; what undoes it declares it void."""
    late = Straggler(line.proxy, "ACQUIRE")
    undone = line.proxy.requests["ABANDON"] + 1
    acquiring = asyncio.create_task(line.lock(line.here).acquire(timeout=0.3))
    await line.proxy.refuse()
    await late.kept()
    with pytest.raises(AcquireTimeout):
        await acquiring
    await line.proxy.accept()
    await line.proxy.seen("reply", "ABANDON", undone)
    await late.arrives()
    assert await line.redis.exists("lock:n") == 0
    assert await stale(line.redis) == 1


async def test_what_nobody_repeats_is_declared_void_by_any_later_request(line: Line) -> None:
    """A lease is lost while it is extended: that is over, and comes to nobody."""
    lock = line.here.lock("n", ttl=0.5, auto_renew=False)
    lease = await lock.acquire()
    late = Straggler(line.proxy, "RENEW")
    extending = asyncio.create_task(lease.extend(50.0))
    await line.proxy.refuse()
    await late.kept()
    with pytest.raises(LeaseLost):
        await extending
    await line.proxy.accept()
    async with line.here.lock("another"):
        pass
    await late.arrives()
    assert await stale(line.redis) == 1


Act = Callable[[RedisPyLock], Coroutine[Any, Any, None]]


async def _extend(lock: RedisPyLock) -> None:
    await lock.extend(50.0, replace_ttl=True)


async def _prolong(lock: RedisPyLock) -> None:
    await lock.extend(50.0)


async def _reacquire(lock: RedisPyLock) -> None:
    await lock.reacquire()


async def _release(lock: RedisPyLock) -> None:
    await lock.release()


async def _acquire(lock: RedisPyLock) -> None:
    assert await lock.acquire(token="chosen")


@pytest.mark.parametrize(
    ("script", "act"),
    [
        ("MOVE_END", _extend),
        ("MOVE_END", _prolong),
        ("RENEW", _reacquire),
        ("RELEASE", _release),
        ("CLAIM", _acquire),
        ("ACQUIRE", _acquire),
    ],
)
async def test_late_words_about_a_token_that_the_user_chose_change_no_later_lease(
    line: Line, script: str, act: Act
) -> None:
    """The same token again: a lease of its own, though no token tells it from the former."""
    async with Redis.from_url(line.proxy.url, username="locks", password="secret") as redis:
        lock = RedisPyLock(redis, "theirs", timeout=20.0)
        if act is not _acquire:
            await _acquire(lock)
        late = Straggler(line.proxy, script)
        acting = asyncio.create_task(act(lock))
        await late.kept()
        await acting
        if act is not _release:
            await lock.release()
        await _acquire(lock)
        await lock.extend(5.0, replace_ttl=True)
        await late.arrives()
        assert await line.redis.get("theirs") == b"chosen"
        assert 4_000 < await line.redis.pttl("theirs") <= 5_000
        assert await stale(line.redis) == 1
        await lock.release()


async def test_who_may_only_read_goes_on_asking_after_a_lost_question(line: Line) -> None:
    """A question writes nothing, also behind a lost connection: nor is a replica refused it."""
    await line.redis.execute_command("ACL", "SETUSER", "locks", "-@write")  # type: ignore[no-untyped-call, unused-ignore]
    late = Straggler(line.proxy, "INSPECT")
    asking = asyncio.create_task(line.here.lock("n").inspect(5.0))
    await late.kept()
    assert (await asking).holder is None
    assert not await line.here.lock("n").locked(5.0)
    await late.arrives()
    assert await line.redis.keys("aiodistlock:void:*") == []


async def test_nothing_is_noted_where_nothing_was_unanswered(line: Line) -> None:
    """A connection that breaks while it is idle leaves no key behind."""
    async with line.lock(line.here):
        checked = line.proxy.requests["RENEW"] + 1
        await line.proxy.cut()
        await line.proxy.seen("reply", "RENEW", checked)  # over the next connection
        async with line.here.lock("another"):
            pass
    assert await line.redis.keys("aiodistlock:void:*") == []


@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_number_that_somebody_else_noted_is_gone_above(
    redis_url: str, namespace: str, protocol: int
) -> None:
    """At once: nobody is refused for as long as it stands there."""
    async with (
        redis_asyncio.from_url(redis_url) as redis,
        client(redis_url, protocol=protocol) as locks,
    ):
        lock = locks.lock("n", namespace=namespace)
        lease = await lock.acquire()
        noted = await _note_ahead(redis, locks)
        with anyio.fail_after(5):
            await lease.extend(5.0)
            await lease.release()
            await (await lock.acquire()).release()
        assert await redis.get(noted) is not None


@pytest.mark.parametrize("protocol", [2, 3])
async def test_so_it_is_where_requests_travel_together(
    redis_url: str, namespace: str, protocol: int
) -> None:
    """What refuses them as a whole is gone above, too."""
    async with (
        redis_asyncio.from_url(redis_url) as redis,
        client(redis_url, protocol=protocol) as locks,
    ):
        made = [locks.lock(f"n{number}", namespace=namespace) for number in range(20)]
        await made[0].locked()
        await _note_ahead(redis, locks)
        with anyio.fail_after(5):
            leases = await asyncio.gather(*(lock.acquire() for lock in made))
            await asyncio.gather(*(lease.release() for lease in leases))


async def _note_ahead(redis: redis_asyncio.Redis, locks: LockClient) -> str:
    """Have half of what a client could send in an hour be void."""
    store = locks._engine("n").store
    assert isinstance(store, SingleStore)
    assert isinstance(store.connection, Pipe)
    numbering = store.connection._numbering
    key = f"aiodistlock:void:{numbering.sender}"
    await redis.set(key, numbering.last + 5 * 10**9, px=60_000)
    return key
