"""Durability levels: what ``ack`` promises, and what it costs."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis as redis_sync
import redis.asyncio as redis_asyncio

from aiodistlock import AcquireTimeout, Backoff, HandedOver, LockClient, LockError, StoreUnavailable
from aiodistlock.core.value import value_of
from aiodistlock.deployments.durable.store import NotAcknowledged
from aiodistlock.protocol import scripts
from aiodistlock.testing.discovery import LOOPBACK
from aiodistlock.testing.embedded import EmbeddedRedis
from tests.faults.world import EAGER, eventually
from tests.proxy import ChaosProxy, Delay, on
from tests.redis.test_servers import _binaries
from tests.stories import Told


class Replicated:
    """A master with two replicas."""

    def __init__(self, master: EmbeddedRedis, replicas: list[EmbeddedRedis]) -> None:
        self.master = master
        self.replicas = replicas

    def cut_off(self, count: int) -> None:
        """Have replicas hear and acknowledge nothing any more."""
        for replica in self.replicas[:count]:
            replica.freeze()

    def calls(self, command: str) -> int:
        """Return how often the master has run a command."""
        with redis_sync.from_url(self.master.url) as client:
            stats: dict[str, Any] = client.info("commandstats")
            return int(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"])


@pytest.fixture
def replicated(redis_binary: Path) -> Iterator[Replicated]:
    """A master whose two replicas are in step."""
    args = ["--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0", "--hz", "50"]
    with (
        EmbeddedRedis(binary=redis_binary, args=args) as master,
        _replica(redis_binary, args, master) as one,
        _replica(redis_binary, args, master) as two,
    ):
        with redis_sync.from_url(master.url) as client:
            while client.execute_command("WAIT", 2, 1000) < 2:
                pass
        yield Replicated(master, [one, two])


@contextmanager
def _replica(binary: Path, args: list[str], master: EmbeddedRedis) -> Iterator[EmbeddedRedis]:
    follow = ["--replicaof", LOOPBACK, str(master.port)]
    with EmbeddedRedis(binary=binary, args=[*args, *follow]) as replica:
        yield replica


@asynccontextmanager
async def _raw(server: EmbeddedRedis) -> AsyncIterator[redis_asyncio.Redis]:
    async with redis_asyncio.from_url(server.url) as redis:
        yield redis


async def test_a_lease_is_on_all_replicas_before_it_is_held(replicated: Replicated) -> None:
    """With ack="replicas:2" whoever holds finds the key at both replicas at once."""
    async with (
        LockClient.from_url(replicated.master.url) as locks,
        _raw(replicated.replicas[0]) as one,
        _raw(replicated.replicas[1]) as two,
    ):
        for _ in range(20):
            async with locks.lock("n", ack="replicas:2") as lease:
                value = value_of(lease.token.encode(), lease.fencing_token)
                assert [await one.get("lock:n"), await two.get("lock:n")] == [value, value]


async def test_several_acquisitions_share_one_wait(replicated: Replicated) -> None:
    """A hundred acquisitions at once take a few WAITs, not a hundred."""
    async with LockClient.from_url(replicated.master.url) as locks:
        async with locks.lock("first", ack="replicas:1"):
            pass  # connected, and the scripts are known
        before = replicated.calls("wait")
        found = await asyncio.gather(
            *(locks.lock(f"n{i}", ack="replicas:1").acquire(timeout=5) for i in range(100))
        )
        assert 1 <= replicated.calls("wait") - before <= 5
        for lease in found:
            await lease.release()


async def test_local_locks_do_not_wait(replicated: Replicated) -> None:
    """Locks without ack on the same client neither wait nor stand behind one that does."""
    async with LockClient.from_url(replicated.master.url) as locks:
        async with locks.lock("n"):
            pass
        assert replicated.calls("wait") == 1  # the fixture's
        replicated.cut_off(2)
        stalled = asyncio.create_task(locks.lock("stalled", ack="replicas:2").acquire(timeout=1))
        await asyncio.sleep(0.1)  # its WAIT is under way
        async with asyncio.timeout(0.7), locks.lock("n"):
            pass
        with pytest.raises(AcquireTimeout):
            await stalled


async def test_too_few_replicas_leave_nothing_and_fail_in_the_end(replicated: Replicated) -> None:
    """What is not acknowledged is given up, tried again, and ends as StoreUnavailable."""
    async with (
        # Time for more than one wait of a second, or none may have been answered by then.
        LockClient.from_url(replicated.master.url, unavailable_after=2.5) as locks,
        _raw(replicated.master) as raw,
    ):
        lock = locks.lock("n", ack="replicas:2", backoff=EAGER)
        async with lock:
            pass
        replicated.cut_off(1)
        async with locks.lock("n", ack="replicas:1"):
            pass  # one is left
        with pytest.raises(StoreUnavailable, match="1 of 2 replicas") as caught:
            await lock.acquire(timeout=10)
        assert isinstance(caught.value.causes[0], NotAcknowledged)

        await eventually(lambda: raw.exists("lock:n"), 0)  # long before its ttl is over
        with pytest.raises(AcquireTimeout):
            await lock.acquire(timeout=0.3)
        await eventually(lambda: raw.exists("lock:n"), 0)  # long before its ttl is over
        replicated.replicas[0].thaw()
        async with lock.hold(timeout=10):
            pass


async def test_what_is_not_acknowledged_blocks_nobody(replicated: Replicated) -> None:
    """Between two tries the lock is free: others that ask for less get it."""
    replicated.cut_off(2)
    async with (
        LockClient.from_url(replicated.master.url) as one,
        LockClient.from_url(replicated.master.url) as two,
    ):
        vainly = asyncio.create_task(one.lock("n", ttl=30.0, ack="replicas:1").acquire(timeout=20))
        await eventually(two.lock("n").locked, True)
        async with two.lock("n").hold(timeout=10):
            pass
        vainly.cancel()
        await asyncio.wait([vainly])


async def test_a_contended_lock_that_nobody_acknowledges_fails_as_well(
    replicated: Replicated,
) -> None:
    """That others queue and are granted in between does not restart the clock."""
    replicated.cut_off(2)
    async with (
        LockClient.from_url(replicated.master.url, unavailable_after=1.0) as one,
        LockClient.from_url(replicated.master.url, unavailable_after=1.0) as two,
    ):
        locks = [each.lock("n", ttl=1.0, ack="replicas:1", backoff=EAGER) for each in (one, two)]
        async with asyncio.timeout(20):
            found = await asyncio.gather(
                *(each.acquire() for each in locks), return_exceptions=True
            )
        assert [type(each) for each in found] == [StoreUnavailable] * 2


async def test_a_renewal_that_nobody_acknowledges_does_not_prolong_the_lease(
    replicated: Replicated,
) -> None:
    """The holder keeps the lease to its deadline, and loses it there."""
    async with LockClient.from_url(replicated.master.url) as locks:
        lease = await locks.lock("n", ttl=1.0, ack="replicas:2").acquire()
        replicated.cut_off(1)
        began = asyncio.get_running_loop().time()
        assert await lease.wait_lost()
        assert asyncio.get_running_loop().time() - began < 1.0 + 1.0


async def test_the_silence_of_a_wait_breaks_no_connection(replicated: Replicated) -> None:
    """A renewal is late because the server waits as it was asked to, not because it is gone."""
    async with LockClient.from_url(replicated.master.url) as locks:
        lease = await locks.lock("n", ttl=1.0, ack="replicas:2").acquire()
        replicated.cut_off(1)
        with redis_sync.from_url(replicated.master.url) as client:
            before = client.info("stats")["total_connections_received"]
            assert await lease.wait_lost()
            assert client.info("stats")["total_connections_received"] == before


async def test_a_holder_keeps_its_lease_while_replicas_acknowledge(replicated: Replicated) -> None:
    """Renewals are acknowledged as acquisitions are."""
    async with (
        LockClient.from_url(replicated.master.url) as locks,
        locks.lock("n", ttl=1.5, ack="replicas:2") as lease,
    ):
        await asyncio.sleep(2.0)  # more than the ttl
        assert lease.is_held


@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_grant_by_message_is_acknowledged_before_it_is_held(
    replicated: Replicated, protocol: int
) -> None:
    """Whoever is handed the lock by another process asks for its own acknowledgement."""
    url = replicated.master.url
    async with (
        LockClient.from_url(url) as one,
        LockClient.from_url(url, protocol=protocol) as two,
        _raw(replicated.replicas[0]) as replica,
    ):
        lock = two.lock("n", ack="replicas:2", backoff=Backoff(initial=20.0, cap=20.0))
        first = await one.lock("n").acquire()
        waiting = asyncio.create_task(lock.acquire(timeout=5))

        async def queued() -> int:
            return len((await one.lock("n").inspect()).waiters)

        await eventually(queued, 1)
        await first.release()
        lease = await waiting
        assert await replica.get("lock:n") == lease._process_lease.value
        await lease.release()
        second = await one.lock("n").acquire()
        vainly = asyncio.create_task(lock.acquire(timeout=1))
        await eventually(queued, 1)
        replicated.cut_off(1)
        await second.release()
        with pytest.raises(AcquireTimeout):
            await vainly


async def test_a_master_that_is_demoted_while_it_waits_fails_nobody(
    replicated: Replicated,
) -> None:
    """It answers the wait with an error and hangs up; the acquire goes on at the next master."""
    async with LockClient.from_url(replicated.master.url) as locks:
        lock = locks.lock("n", ttl=20.0, ack="replicas:1", backoff=EAGER)
        async with lock:
            pass
        replicated.cut_off(2)
        acquiring = asyncio.create_task(lock.acquire(timeout=10))
        with redis_sync.from_url(replicated.master.url) as master:
            while not master.info("clients")["blocked_clients"]:
                await asyncio.sleep(0.005)
            # Redis 6.2 counts what a command in a script answered as ERR.
            kinds = ("errorstat_READONLY", "errorstat_ERR")

            async def refusals() -> list[Any]:
                return [master.info("errorstats").get(kind) for kind in kinds]

            before = await refusals()
            master.replicaof(LOOPBACK, "1")

            async def refused() -> bool:
                return await refusals() != before

            await eventually(refused, True)
            assert not acquiring.done()
            master.replicaof("NO", "ONE")
        for replica in replicated.replicas:
            replica.thaw()
        await (await acquiring).release()


async def test_an_abandon_sent_again_as_eval_does_not_undo_the_next_try(
    replicated: Replicated,
) -> None:
    """Both are under the same token, and the server forgot the script of the former only."""
    async with ChaosProxy.before(replicated.master.url) as proxy:
        proxy.script_names = {scripts.ABANDON.sha.decode(): "ABANDON"}
        proxy.rules.append(on("reply", "ABANDON", Delay(0.3), number=1))
        async with LockClient.from_url(proxy.url) as locks, _raw(replicated.master) as raw:
            lock = locks.lock("n", ttl=20.0, ack="replicas:1", backoff=EAGER)
            async with lock:
                pass
            replicated.cut_off(2)
            acquiring = asyncio.create_task(lock.acquire(timeout=20))
            await proxy.seen("request", "ABANDON")
            for replica in replicated.replicas:
                replica.thaw()
            lease = await acquiring
            await proxy.seen("reply", "ABANDON", 2)
            assert await raw.get("lock:n") == lease._process_lease.value
            await lease.release()


async def test_cancelled_while_it_waits_for_the_acknowledgement_nothing_is_left(
    replicated: Replicated,
) -> None:
    """The key is given up behind the wait, and the next one gets the lock."""
    async with (
        LockClient.from_url(replicated.master.url) as locks,
        _raw(replicated.master) as raw,
    ):
        async with locks.lock("n", ack="replicas:1"):
            pass
        replicated.cut_off(2)
        task = asyncio.create_task(locks.lock("n", ack="replicas:1").acquire())

        async def held() -> bool:
            return await raw.get("lock:n") is not None

        await eventually(held, True)
        task.cancel()
        async with asyncio.timeout(0.9):  # less than the wait takes
            await asyncio.wait([task])
        await eventually(held, False)
        async with locks.lock("n").hold(timeout=5):
            pass


async def test_closing_gives_up_what_still_waits_for_its_acknowledgement(
    replicated: Replicated,
) -> None:
    """The release goes out behind the wait, though that stalls the connection."""
    replicated.cut_off(2)
    async with _raw(replicated.master) as raw:
        async with LockClient.from_url(replicated.master.url) as locks:
            task = asyncio.create_task(locks.lock("n", ack="replicas:1").acquire())

            async def held() -> bool:
                return await raw.get("lock:n") is not None

            await eventually(held, True)
        assert not await held()
        await asyncio.wait([task])
        assert task.exception() is not None


@pytest.mark.parametrize("reentrant", [False, True])
async def test_a_task_does_not_wait_for_itself_at_another_level(
    redis_url: str, namespace: str, reentrant: bool
) -> None:
    """It would for ever; and a lease of a lower level is not what a reentrant lock asks for."""
    async with LockClient.from_url(redis_url) as locks, locks.lock("n", namespace=namespace):
        higher = locks.lock("n", namespace=namespace, ack="replicas:1", reentrant=reentrant)
        with pytest.raises(LockError, match="same ack="):
            await higher.acquire()
        assert await higher.try_acquire() is None
        assert await asyncio.create_task(higher.try_acquire()) is None
        with pytest.raises(AcquireTimeout, match="held by"):
            await asyncio.create_task(higher.acquire(timeout=0.05))  # another task may wait


async def test_fsync_says_clearly_where_it_cannot_be_had(redis_binary: Path) -> None:
    """No WAITAOF before Redis 7.2, none without appendonly: an error that says so."""
    with EmbeddedRedis(binary=redis_binary) as server:
        async with LockClient.from_url(server.url) as locks, _raw(server) as raw:
            with pytest.raises(StoreUnavailable, match=r"7\.2 or later|appendonly yes"):
                await locks.lock("n", ack="fsync").acquire(timeout=5)
            await eventually(lambda: raw.exists("lock:n"), 0)


@pytest.mark.parametrize("binary", _binaries(), ids=str)
async def test_fsync_waits_for_the_disk(binary: Path) -> None:
    """With WAITAOF and appendonly the lease is in the file before it is held."""
    args = ["--appendonly", "yes", "--appendfsync", "always"]
    with EmbeddedRedis(binary=binary, args=args) as server:
        if tuple(int(part) for part in server.version.split(".")[:2]) < (7, 2):
            pytest.skip(f"{binary} is {server.version}: WAITAOF came with 7.2")
        async with (
            LockClient.from_url(server.url) as locks,
            locks.lock("n", ack="fsync") as lease,
        ):
            server.kill()
            server.restart()
            async with _raw(server) as raw:
                assert await raw.get("lock:n") == lease._process_lease.value


async def test_a_grant_that_is_yet_to_be_acknowledged_is_told_as_a_handoff(
    replicated: Replicated,
) -> None:
    """Though the new holder asks for what it was granted, as if the lock were free."""
    told = Told()
    async with (
        LockClient.from_url(replicated.master.url) as one,
        LockClient.from_url(replicated.master.url, listeners=[told]) as two,
    ):
        lease = await one.lock("n", ack="replicas:1").acquire()
        waiting = asyncio.create_task(two.lock("n", ack="replicas:1").acquire())
        while not (await one.lock("n").inspect()).waiters:
            await asyncio.sleep(0)
        await lease.release()
        await (await waiting).release()
    assert told.order.replace(" n1", "") == "W1 H1 A1 R1"
    assert not told.only(HandedOver).local
