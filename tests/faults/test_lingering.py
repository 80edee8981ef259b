"""Leases that linger on a real Redis: recalls, dead and deaf holders, connections, many names."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis.asyncio as redis_asyncio
from anyio import fail_after

from aiodistlock import AcquireTimeout, AsyncLock, LockClient, LockError
from aiodistlock.connection.pipe import Pipe
from aiodistlock.core.keys import LockKeys
from aiodistlock.core.value import read_value
from aiodistlock.protocol import scripts
from aiodistlock.protocol.operations import Operations
from aiodistlock.waiting.linger_rules import HEARD_WITHIN, MOST
from aiodistlock.waiting.lingering_leases import LingeringLeases
from tests.faults.test_processes import Client, Start, queued, start  # noqa: F401  # a fixture
from tests.faults.world import EAGER, PATIENT, SCRIPTS, client, eventually, left, nothing_left
from tests.proxy import ChaosProxy, Do, on

pytestmark = pytest.mark.bounded(60)


@pytest.fixture(params=[3, 2], ids=["resp3", "resp2"])
def protocol(request: pytest.FixtureRequest) -> int:
    """Which RESP all speak: under RESP2 recalls come over a connection of their own."""
    value: int = request.param
    return value


@pytest.fixture
async def proxy(redis_url: str) -> AsyncIterator[ChaosProxy]:
    """Between the client whose leases linger and Redis."""
    async with ChaosProxy.before(redis_url) as proxy:
        proxy.script_names.update(SCRIPTS)
        yield proxy


@pytest.fixture
async def here(proxy: ChaosProxy, protocol: int, namespace: str) -> AsyncIterator[LockClient]:
    """The client whose leases linger; closed before the namespace must be empty."""
    assert namespace
    async with client(proxy.url, protocol=protocol) as made:
        yield made


@pytest.fixture
async def there(redis_url: str, protocol: int, namespace: str) -> AsyncIterator[LockClient]:
    """Another process."""
    assert namespace
    async with client(redis_url, protocol=protocol) as made:
        yield made


async def use(lock: AsyncLock) -> int:
    """Hold the lock, and return the fencing token."""
    async with lock as lease:
        return lease.fencing_token


async def linger(made: LockClient, lock: AsyncLock) -> int:
    """Have a lease linger, and return the fencing token of its last use."""
    hits = made.linger_counts.hits
    with fail_after(20):
        while made.linger_counts.hits == hits:  # RESP2 has to open its second connection
            fence = await use(lock)
            await asyncio.sleep(0)
    return fence


async def test_a_waiter_behind_an_idle_holder_that_lives_is_served_by_a_recall(
    here: LockClient, there: LockClient, namespace: str
) -> None:
    """No pause of its own would wake it before the lease is due."""
    lock = here.lock("n", ttl=60.0, namespace=namespace, linger=60.0)
    fence = await linger(here, lock)
    began = time.monotonic()
    with fail_after(15):
        assert await use(there.lock("n", namespace=namespace, backoff=PATIENT)) > fence
    assert time.monotonic() - began < 10  # its lease would end by itself in 20 s
    assert here.linger_counts[1:] == (0, 1)


async def test_auto_lingers_where_it_pays_until_others_ask(
    here: LockClient, there: LockClient, namespace: str
) -> None:
    """Then it does not for a while."""
    lock = here.lock("n", ttl=60.0, namespace=namespace, linger="auto")
    await linger(here, lock)

    async def recalls() -> int:
        return here.linger_counts.recalls

    async with lock:
        other = there.lock("n", namespace=namespace, backoff=PATIENT)
        waiting = asyncio.create_task(other.acquire())
        await eventually(recalls, 1, within=15)
    with fail_after(15):
        await (await waiting).release()
    hits = here.linger_counts.hits
    for _ in range(6):
        await use(lock)
    assert here.linger_counts.hits == hits


async def test_a_recall_that_is_lost_is_repeated(
    here: LockClient, there: LockClient, proxy: ChaosProxy, namespace: str
) -> None:
    """Each time that the waiter asks again."""
    lock = here.lock("n", ttl=60.0, namespace=namespace, linger=60.0)
    await linger(here, lock)
    proxy.rules.append(on("push", "MESSAGE", Do.DROP, number=1))
    with fail_after(15):
        await use(there.lock("n", namespace=namespace, backoff=EAGER))
    assert here.linger_counts[1:] == (0, 1)


async def test_a_lease_got_for_a_task_whose_lock_does_not_linger_is_released(
    here: LockClient, there: LockClient, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """Its token tells others that it never lingers, whoever has it next: they would not ask."""
    lock = here.lock("n", ttl=60.0, namespace=namespace, linger=60.0)
    await linger(here, lock)
    await use(there.lock("n", namespace=namespace))  # so that none lingers
    plain = here.lock("n", ttl=60.0, namespace=namespace)
    async with plain:
        second = asyncio.create_task(use(lock))
        await asyncio.sleep(0)
    await second

    async def kept() -> object:
        return await redis.get(LockKeys("n", namespace=namespace).key)

    await eventually(kept, None)


async def test_a_lock_in_turns_is_held_by_one_at_a_time(
    here: LockClient, there: LockClient, namespace: str
) -> None:
    """Both linger, use again and recall; fencing tokens rise over all."""
    fences: list[int] = []
    inside = 0

    def enough() -> bool:
        counts = (here.linger_counts, there.linger_counts)
        return all(hits >= 10 and recalls >= 2 for hits, _, recalls in counts)

    async def task(made: LockClient) -> None:
        nonlocal inside
        lock = made.lock("n", namespace=namespace, linger=5.0)
        while not enough():
            for number in range(5):
                async with lock as lease:
                    assert inside == 0
                    inside += 1
                    fences.append(lease.fencing_token)
                    if number % 3 == 0:
                        await asyncio.sleep(0)
                    inside -= 1
            await asyncio.sleep(0.002)  # real time, in which it lingers

    with fail_after(50):
        await asyncio.gather(*(task(each) for each in (here, there) for _ in range(2)))
    assert fences == sorted(set(fences))


async def overtaken(holder: Client, lock: AsyncLock, number: signal.Signals) -> None:
    """Kill or stop a process whose lease lingers, and see another one get the lock behind it."""
    _, fence = await holder.said("released")
    holder.send(number)
    began = time.monotonic()
    async with lock as lease:
        # Its ttl of 1.5 s and a second; the rest is for a busy machine, since it polls every 20 s.
        assert time.monotonic() - began < 1.5 + 1.0 + 5.0
        assert lease.fencing_token > int(fence)
        if number == signal.SIGSTOP:
            holder.send(signal.SIGCONT)
            await asyncio.sleep(0.2)  # real time: it releases what it has no more
            await lease.extend(5.0)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_an_idle_holder_that_cannot_answer_blocks_for_its_ttl_and_a_second(
    start: Start,  # noqa: F811  # the fixture
    there: LockClient,
    protocol: int,
    namespace: str,
    number: signal.Signals,
) -> None:
    """Its lease is not renewed, and its process may go on later: it has nothing then."""
    async with start("linger", ttl=1.5, query=f"?protocol={protocol}") as holder:
        await overtaken(holder, there.lock("n", namespace=namespace, backoff=PATIENT), number)


async def test_a_lease_that_was_got_over_another_connection_does_not_linger(
    here: LockClient, proxy: ChaosProxy, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """The server that is reached by now may know nothing of it."""
    lock = here.lock("n", namespace=namespace, linger=60.0)
    await linger(here, lock)
    hits = here.linger_counts.hits
    async with lock as lease:
        await proxy.cut()
        await lease.extend(10.0)
    assert len(here._engine("n").lingering) == 0
    await use(lock)
    assert here.linger_counts.hits == hits + 1
    await linger(here, lock)
    assert await left(redis, namespace) == [f"{namespace}n".encode()]


async def test_a_lease_that_lingers_is_not_used_over_another_connection(
    here: LockClient, proxy: ChaosProxy, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Whoever uses it sees to that, though nobody has ended it yet.

    On a Cluster a slot's way may change some turns of the loop before that is told.
    """
    lock = here.lock("n", ttl=60.0, namespace=namespace, linger=60.0)
    fence = await linger(here, lock)
    engine = here._engine("n")
    ended = LingeringLeases.end
    monkeypatch.setattr(LingeringLeases, "end", lambda *_: None)
    former = engine.connection.line(lock._keys)
    await proxy.cut()

    async def heard_over_another() -> bool:
        return engine.connection.line(lock._keys) not in (None, former)

    await eventually(heard_over_another, True, within=15)
    monkeypatch.setattr(LingeringLeases, "end", ended)
    counts = here.linger_counts
    assert len(engine.lingering) == 1
    assert await use(lock) > fence
    assert here.linger_counts == counts._replace(misses=1)


async def test_what_lingers_is_released_when_its_connection_is_lost(
    here: LockClient, proxy: ChaosProxy, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """A recall may have been missed; as soon as the server is reached again."""
    lock = here.lock("n", ttl=60.0, namespace=namespace, linger=60.0)
    await linger(here, lock)
    await proxy.cut()
    await nothing_left(redis, namespace, within=10)


async def test_it_is_not_used_while_the_server_is_silent(
    here: LockClient, proxy: ChaosProxy, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """Nobody else's recall would be heard."""
    lock = here.lock("n", ttl=60.0, namespace=namespace, linger=60.0)
    await linger(here, lock)
    proxy.black_hole()
    await asyncio.sleep(HEARD_WITHIN + 0.1)  # real time: nothing else tells that it is silent
    hits = here.linger_counts.hits
    with pytest.raises(AcquireTimeout):
        await lock.acquire(timeout=0.2)
    assert here.linger_counts.hits == hits
    await proxy.accept()
    await proxy.cut()
    await nothing_left(redis, namespace, within=10)


async def test_a_lease_whose_answer_was_lost_does_not_linger_before_others(
    here: LockClient, there: LockClient, proxy: ChaosProxy, namespace: str, redis: Any
) -> None:
    """Meanwhile somebody came, whose recall nobody heard: the answer says so."""
    lock = here.lock("n", ttl=200.0, namespace=namespace, linger=60.0)
    await linger(here, here.lock("other", namespace=namespace, linger=60.0))
    before = proxy.requests["ACQUIRE"]
    await proxy.refuse()
    proxy.rules.append(on("reply", "ACQUIRE", Do.CUT_BEFORE, number=before + 1))
    acquiring = asyncio.create_task(lock.acquire())
    with fail_after(20):
        await eventually(lambda: left_of(redis, namespace), True)
        waiting = asyncio.create_task(
            there.lock("n", ttl=200.0, namespace=namespace, backoff=PATIENT).acquire()
        )
        await queued(redis, namespace, 1)
        await proxy.accept()
        await (await acquiring).release()
        await (await waiting).release()


async def test_a_lease_whose_grant_was_lost_does_not_linger_before_others(
    redis_url: str, proxy: ChaosProxy, protocol: int, redis: Any, namespace: str
) -> None:
    """Who asks again is told that it has the lock, and others wait: nobody will recall it."""
    async with (
        client(proxy.url, protocol=protocol, claim_window=30.0) as here,
        client(redis_url) as there,
        client(redis_url) as third,
    ):
        await linger(here, here.lock("other", namespace=namespace, linger=60.0))
        lease = await there.lock("n", ttl=200.0, namespace=namespace).acquire()
        proxy.rules.append(on("push", "MESSAGE", Do.DROP, number=1))
        lock = here.lock("n", ttl=200.0, namespace=namespace, linger=60.0, backoff=EAGER)
        with fail_after(30):
            acquiring = asyncio.create_task(lock.acquire())
            await queued(redis, namespace, 1)
            behind = third.lock("n", ttl=200.0, namespace=namespace, backoff=PATIENT)
            waiting = asyncio.create_task(behind.acquire())
            await queued(redis, namespace, 2)
            await lease.release()
            lease = await acquiring
        hits = here.linger_counts.hits
        await lease.release()
        with fail_after(15):
            await (await waiting).release()
        assert here.linger_counts == (hits, 0, 0)


async def left_of(redis: redis_asyncio.Redis, namespace: str) -> bool:
    """Tell whether the lock is held."""
    return bool(await redis.exists(f"{namespace}n"))


async def test_where_it_may_not_be_used_its_release_and_the_next_request_are_one_write(
    redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody pays a round trip for having tried."""
    async with client(redis_url) as made:
        lock = made.lock("n", namespace=namespace, linger=60.0)
        await linger(made, lock)
        pipe = made._engine("n").connection
        assert isinstance(pipe, Pipe)
        wire = pipe._wire
        assert wire is not None
        written: list[bytes] = []
        write = wire.write

        def note(data: bytes) -> object:
            written.append(data)
            return write(data)

        monkeypatch.setattr(wire, "write", note)
        async with made.lock("n", ttl=60.0, namespace=namespace):  # it has not enough left
            pass
        release, acquire = scripts.RELEASE.sha, scripts.ACQUIRE.sha
        assert 0 < written[0].index(release) < written[0].index(acquire)


async def test_a_forced_release_reaches_a_lease_that_lingers(
    here: LockClient, redis: Any, namespace: str
) -> None:
    """It is used no more."""
    lock = here.lock("n", ttl=60.0, namespace=namespace, linger=60.0)
    fence = await linger(here, lock)
    token = read_value(await redis.get(f"{namespace}n")).token
    call = Operations().force_release(LockKeys("n", namespace), token)
    await redis.eval(call.script.source, *call.operands(b"aiodistlock:void:test"))

    async def recalls() -> int:
        return here.linger_counts.recalls

    await eventually(recalls, 1)
    assert await use(lock) > fence + 1_000


async def test_a_plain_lock_that_cannot_ask_is_served_after_the_time(
    here: LockClient, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """redis-py's polls; and then the name does not linger for a while."""
    lock = here.lock("n", namespace=namespace, linger=0.3)
    await linger(here, lock)
    plain = redis.lock(f"{namespace}n", timeout=10, sleep=0.01)
    assert await plain.acquire(blocking_timeout=10)
    waiting = asyncio.create_task(lock.acquire())
    await asyncio.sleep(0.1)  # real time, in which it asks
    await plain.release()
    await (await waiting).release()
    counts = here.linger_counts
    await use(lock)
    await use(lock)
    assert here.linger_counts == counts


@pytest.mark.bounded(300)
async def test_many_names_linger_within_the_bound_and_closing_leaves_none(
    redis_url: str, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """Of 100,000 those beyond it are released, the oldest first."""
    async with client(redis_url) as made:
        await linger(made, made.lock("first", namespace=namespace, linger=600.0))
        lingering = made._engine("*").lingering
        for some in range(0, 100_000, 250):
            locks = [
                made.lock(f"n{number}", ttl=2_000.0, namespace=namespace, linger=600.0)
                for number in range(some, some + 250)
            ]
            await asyncio.gather(*map(use, locks))
            assert len(lingering) <= MOST
        assert len(lingering) > MOST / 2

        async def keys() -> int:
            return len(await left(redis, namespace))

        await eventually(keys, len(lingering), within=30)
    await nothing_left(redis, namespace)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
async def test_a_child_process_does_not_use_what_lingers_in_its_parent(
    redis_url: str, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """There the client is told to be the parent's; the parent goes on."""
    async with client(redis_url) as made:
        lock = made.lock("n", namespace=namespace, linger=60.0)
        await linger(made, lock)
        child = os.fork()
        if child == 0:
            try:
                lock.acquire().send(None)
            except LockError:
                os._exit(3)
            except BaseException:  # noqa: BLE001  # the exit code tells
                os._exit(4)
            os._exit(5)
        _, status = os.waitpid(child, 0)  # noqa: ASYNC222  # it ends at once
        assert os.waitstatus_to_exitcode(status) == 3
        hits = made.linger_counts.hits
        await use(lock)
        assert made.linger_counts.hits == hits + 1


async def test_cancelled_at_every_await_nothing_is_left(
    here: LockClient, there: LockClient, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """Whichever turn of the loop a cancellation strikes in, others get the lock."""
    lock = here.lock("n", ttl=20.0, namespace=namespace, linger=60.0)
    for turns in range(12):
        await linger(here, lock)
        if turns % 2:
            here._engine("n").checkpoint.due_at = 0.0

        async def cycle() -> None:
            for _ in range(3):
                async with lock:
                    await asyncio.sleep(0)

        task = asyncio.create_task(cycle())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        with fail_after(10):
            await use(there.lock("n", namespace=namespace, backoff=PATIENT))
    await nothing_left(redis, namespace)
