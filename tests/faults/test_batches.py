"""What leaves in one write goes as one call, and no fault of one is another's."""

import asyncio
import re
from collections.abc import AsyncIterator
from itertools import chain
from typing import Any

import pytest
import redis.asyncio as redis_asyncio
from anyio import fail_after

from aiodistlock import AcquireTimeout, Lease, LockClient, LockError, StoreUnavailable
from aiodistlock.core.keys import LockKeys
from aiodistlock.protocol.scripts import BATCH
from aiodistlock.testing.embedded import EmbeddedRedis
from tests.faults.world import SCRIPTS, client, load_scripts, nothing_left
from tests.late import Straggler, stale
from tests.proxy import Action, ChaosProxy, Do, Frame, Replace, on

COUNT = 20


@pytest.fixture(params=[3, 2], ids=["resp3", "resp2"])
async def here(named: ChaosProxy, request: pytest.FixtureRequest) -> AsyncIterator[LockClient]:
    """A client behind the proxy, with its connection warm."""
    async with client(named.url, protocol=request.param) as made:
        await made.lock("warm").locked()
        named.counts.clear()
        named.frames.clear()
        yield made


def locks_of(here: LockClient, namespace: str, count: int = COUNT, **options: Any) -> list[Any]:
    """Build locks on names of their own."""
    return [here.lock(f"n{number}", namespace=namespace, **options) for number in range(count)]


async def all_of(here: LockClient, namespace: str, count: int = COUNT) -> list[Lease]:
    """Acquire that many locks in one turn of the loop."""
    locks = locks_of(here, namespace, count)
    return list(await asyncio.gather(*(lock.acquire() for lock in locks)))


async def all_released(leases: list[Lease]) -> None:
    """Release them in one turn of the loop."""
    await asyncio.gather(*(lease.release() for lease in leases))


async def test_a_turn_of_the_loop_is_one_request(
    here: LockClient, named: ChaosProxy, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """Twenty acquisitions are one EVALSHA, twenty releases another one."""
    with fail_after(10):
        leases = await all_of(here, namespace)
        await all_released(leases)
    assert len({frame.raw for frame in named.frames if frame.kind == "request"}) == 2
    assert (named.requests["ACQUIRE"], named.requests["RELEASE"]) == (COUNT, COUNT)
    await nothing_left(redis, namespace)


@pytest.mark.parametrize(("count", "requests"), [(1, 1), (3, 3), (4, 1)])
async def test_few_are_a_request_each(
    here: LockClient, named: ChaosProxy, namespace: str, count: int, requests: int
) -> None:
    """Who is alone pays for nobody else."""
    with fail_after(10):
        await all_released(await all_of(here, namespace, count))
    assert len({frame.raw for frame in named.frames if frame.kind == "request"}) == 2 * requests


@pytest.mark.parametrize("name", ["ACQUIRE", "RELEASE"])
@pytest.mark.parametrize(("kind", "do"), [("request", Do.CUT_BEFORE), ("reply", Do.CUT_BEFORE)])
async def test_a_cut_connection_has_all_of_a_batch_sent_again(  # noqa: PLR0917  # fixtures
    here: LockClient,
    named: ChaosProxy,
    redis: redis_asyncio.Redis,
    namespace: str,
    name: str,
    kind: Any,
    do: Do,
) -> None:
    """Whether or not the server has run it, each has the effect of one."""
    named.rules = [on(kind, name, do, number=1)]
    with fail_after(10):
        leases = await all_of(here, namespace)
        assert all(lease.is_held for lease in leases)
        await all_released(leases)
    assert named.connections == 2
    await nothing_left(redis, namespace)


@pytest.mark.parametrize(
    "raw",
    [
        b"*2\r\n:8\r\n<tag>",
        b"*3\r\n:8\r\n<tag>:1\r\n",
        b"*2\r\n:8\r\n:1\r\n",
        b"*" + b"%d" % (2 + COUNT) + b"\r\n:8\r\n<tag>" + b"*3\r\n:4\r\n:2\r\n:0\r\n" * COUNT,
        b"*" + b"%d" % (2 + COUNT) + b"\r\n:8\r\n<tag>" + b"$-1\r\n" * COUNT,
        b"+OK\r\n",
    ],
    ids=["short", "no array", "another number", "their numbers", "nulls", "text"],
)
async def test_an_answer_that_cannot_be_read_has_the_rest_asked_again(
    here: LockClient, named: ChaosProxy, redis: redis_asyncio.Redis, namespace: str, raw: bytes
) -> None:
    """What was read of it counts, and nobody waits for ever."""
    named.rules = [on("reply", "RELEASE", Replace(raw), number=1)]
    with fail_after(10):
        await all_released(await all_of(here, namespace))
    assert named.connections == 2
    await nothing_left(redis, namespace)


async def test_a_server_that_forgot_the_script_gets_it(
    here: LockClient, named: ChaosProxy, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """Once, whatever was sent meanwhile; each of the calls is done once."""
    await redis.script_flush()
    with fail_after(10):
        leases = await all_of(here, namespace, 60)
        await redis.script_flush()
        await all_released(leases)
    sources = {frame.raw for frame in named.frames if BATCH.source in frame.args}
    assert len(sources) == 2
    await nothing_left(redis, namespace)
    await load_scripts(redis)


async def test_a_server_that_never_knows_it_is_unavailable(
    here: LockClient, named: ChaosProxy, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """What was sent with the script cannot be unknown: no request goes for ever."""

    def rule(frame: Frame) -> Action | None:
        return Replace(b"-NOSCRIPT x\r\n") if frame.kind == "reply" else None

    named.rules = [rule]
    with fail_after(10):
        await asyncio.gather(
            *(_unavailable(lock) for lock in locks_of(here, namespace, 5, timeout=0.5))
        )
    assert named.connections > 1
    named.rules = []
    await nothing_left(redis, namespace)


async def _unavailable(lock: Any) -> None:
    with pytest.raises((AcquireTimeout, StoreUnavailable)):
        await lock.acquire()


async def test_the_same_name_twice_keeps_its_order(
    here: LockClient, named: ChaosProxy, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """What undoes an acquisition leaves in the same turn, and runs behind it."""
    with fail_after(10):
        tasks = [asyncio.ensure_future(lock.acquire()) for lock in locks_of(here, namespace)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await nothing_left(redis, namespace)


async def test_one_value_of_another_type_harms_one_lock(
    here: LockClient, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """Its caller is told, and the others have theirs."""
    await redis.rpush(f"{namespace}n7", "x")  # type: ignore[misc, unused-ignore]
    with fail_after(10):
        found = await asyncio.gather(
            *(lock.acquire() for lock in locks_of(here, namespace)), return_exceptions=True
        )
    wrong = found.pop(7)
    assert isinstance(wrong, LockError)
    assert "WRONGTYPE" in str(wrong)
    await all_released([each for each in found if isinstance(each, Lease)])
    assert len(found) == COUNT - 1
    await redis.delete(f"{namespace}n7")


@pytest.mark.parametrize("protocol", [3, 2])
async def test_a_key_that_we_have_no_right_to_harms_one_lock(
    embedded_redis: EmbeddedRedis, protocol: int
) -> None:
    """Redis refuses the whole request: so each goes for itself, and the others are served."""
    rights = "on >secret resetkeys ~lock:* ~aiodistlock:* +@all &*"
    async with redis_asyncio.from_url(embedded_redis.url) as admin:
        await admin.execute_command("ACL", "SETUSER", "locks", *rights.split())  # type: ignore[no-untyped-call, unused-ignore]
        access = {"username": "locks", "password": "secret"}
        async with client(embedded_redis.url, protocol=protocol, **access) as here:
            await here.lock("warm").locked()
            spaces = ["lock:", "lock:", "other:", "lock:", "lock:"]
            with fail_after(10):
                for _ in range(2):
                    found = await asyncio.gather(
                        *(
                            here.lock(f"n{number}", namespace=space).acquire()
                            for number, space in enumerate(spaces)
                        ),
                        return_exceptions=True,
                    )
                    refused = found.pop(2)
                    assert isinstance(refused, LockError)
                    leases = [each for each in found if isinstance(each, Lease)]
                    assert len(leases) == 4
                    await all_released(leases)
        assert [key async for key in admin.scan_iter(match="lock:*")] == []


@pytest.mark.parametrize("protocol", [3, 2])
@pytest.mark.parametrize("denied", ["zadd", "pexpire"])
async def test_a_command_in_a_script_that_we_have_no_right_to_harms_who_needs_it(
    embedded_redis: EmbeddedRedis, protocol: int, denied: str
) -> None:
    """
    To queue is refused, or to renew: the others of the request are served.

    Redis 6.2 tells the line of the script, later ones the command.
    """
    rights = f"on >secret ~* +@all -{denied} &*"
    async with (
        redis_asyncio.from_url(embedded_redis.url) as admin,
        client(embedded_redis.url) as other,
    ):
        await admin.execute_command("ACL", "SETUSER", "locks", *rights.split())  # type: ignore[no-untyped-call, unused-ignore]  # in older redis-py
        access = {"username": "locks", "password": "secret"}
        async with client(embedded_redis.url, protocol=protocol, **access) as here:
            await here.lock("warm").locked()
            locks = locks_of(here, "lock:", 6, ttl=20.0)
            if denied == "zadd":
                harmed = await other.lock("n2").acquire()
                # Without an inbox that is heard it would not queue, but try.
                while not here._engine("n").connection.listen(LockKeys("n", "lock:")):
                    await asyncio.sleep(0.005)
                asked: list[Any] = [lock.acquire() for lock in locks]
            else:
                harmed = await locks[2].acquire()
                asked = [lock.acquire() for lock in locks]
                asked[2].close()
                asked[2] = harmed.extend(20.0)
            before = await scripts_run(admin)
            with fail_after(10):
                found = await asyncio.gather(*asked, return_exceptions=True)
            # In one request, with the source if need be, and what undoes the harmed one.
            assert await scripts_run(admin) < before + len(locks)
            refused = found.pop(2)
            assert isinstance(refused, LockError)
            assert re.search(rf"run the '{denied}' command|can't run this command", str(refused))
            await all_released([each for each in found if isinstance(each, Lease)])
            assert len([each for each in found if isinstance(each, Lease)]) == 5
            await harmed.release()
        assert [key async for key in admin.scan_iter(match="lock:*")] == []


async def scripts_run(redis: redis_asyncio.Redis) -> int:
    """Count the calls of scripts, by name or with their source."""
    stats = await redis.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("eval", "evalsha"))


async def test_a_server_that_is_no_master_is_left_for_a_batch_as_for_one(
    embedded_redis: EmbeddedRedis,
) -> None:
    """Every item is refused, and asked again until the server is one."""
    async with (
        redis_asyncio.from_url(embedded_redis.url) as admin,
        client(embedded_redis.url) as here,
    ):
        await all_released(await all_of(here, "lock:"))
        before = (await admin.info("stats"))["total_connections_received"]
        await admin.replicaof("127.0.0.1", 1)  # type: ignore[no-untyped-call, unused-ignore]
        with fail_after(20):
            acquiring = asyncio.ensure_future(all_of(here, "lock:"))
            await asyncio.sleep(0.2)  # so long it is refused
            assert not acquiring.done()
            await admin.replicaof("NO", "ONE")  # type: ignore[no-untyped-call, unused-ignore]
            await all_released(await acquiring)
        assert (await admin.info("stats"))["total_connections_received"] > before
        assert [key async for key in admin.scan_iter(match="lock:*")] == []


async def test_want_of_memory_fails_acquisitions_and_no_release(
    embedded_redis: EmbeddedRedis,
) -> None:
    """Though they are in one request, and the releases make room."""
    async with (
        redis_asyncio.from_url(embedded_redis.url) as admin,
        client(embedded_redis.url) as here,
    ):
        leases = await all_of(here, "lock:")
        await admin.config_set("maxmemory-policy", "noeviction")
        await admin.config_set("maxmemory", 1)
        locks = locks_of(here, "lock:more:", timeout=0.3)
        with fail_after(20):
            found = await asyncio.gather(
                *chain.from_iterable(
                    (lease.release(), lock.acquire())
                    for lease, lock in zip(leases, locks, strict=True)
                ),
                return_exceptions=True,
            )
        assert found[::2] == [None] * COUNT
        assert all(isinstance(each, AcquireTimeout | StoreUnavailable) for each in found[1::2])
        assert [key async for key in admin.scan_iter(match="lock:*")] == []
        await admin.config_set("maxmemory", 0)


@pytest.mark.bounded(60)
@pytest.mark.parametrize("protocol", [3, 2])
async def test_a_late_batch_takes_nothing(embedded_redis: EmbeddedRedis, protocol: int) -> None:
    """Lost with one connection, done over another, and then the first copy comes."""
    async with (
        redis_asyncio.from_url(embedded_redis.url) as redis,
        ChaosProxy.before(embedded_redis.url) as proxy,
    ):
        await load_scripts(redis)
        proxy.script_names = SCRIPTS
        async with client(proxy.url, protocol=protocol) as here:
            await here.lock("warm").locked()
            late = Straggler(proxy, "ACQUIRE")
            acquiring = asyncio.ensure_future(all_of(here, "lock:"))
            await late.kept()
            await all_released(await acquiring)
            await late.arrives()
            assert [key async for key in redis.scan_iter(match="lock:*")] == []
            assert await stale(redis) == 1
