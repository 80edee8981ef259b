"""A server that is demoted with its connections open, behind a name that leads elsewhere now."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import redis.asyncio as redis_asyncio

from aiodistlock import AcquireTimeout, AsyncLock, LockClient
from aiodistlock.testing.embedded import EmbeddedRedis
from tests.deployments.demotion import Endpoint, endpoint
from tests.deployments.quorum import Nodes
from tests.faults.world import PATIENT, client, eventually, waiters

pytestmark = pytest.mark.bounded(60)


@pytest.fixture
async def place(redis_binary: Path) -> AsyncIterator[Endpoint]:
    """One name before two servers."""
    async with endpoint(redis_binary) as made:
        yield made


@pytest.fixture(params=[3, 2], ids=["resp3", "resp2"])
async def pair(
    place: Endpoint, request: pytest.FixtureRequest
) -> AsyncIterator[tuple[LockClient, LockClient]]:
    """Two clients of that name, which have handed a lock over by message."""
    async with (
        client(place.url, protocol=request.param) as one,
        client(place.url, protocol=request.param) as other,
    ):
        await _hand_over(place.former, one, other)
        yield one, other


async def _hand_over(
    server: EmbeddedRedis, one: LockClient, other: LockClient, ack: str = "local"
) -> None:
    """Hand a lock over each way, to a waiter that does not poll."""
    async with redis_asyncio.from_url(server.url) as redis:
        for here, there in ((one, other), (other, one)):
            holding = await here.lock("handed", ttl=30.0, ack=ack).acquire(timeout=15)
            waiting = asyncio.create_task(
                there.lock("handed", ttl=30.0, backoff=PATIENT, ack=ack).acquire()
            )
            await eventually(lambda: waiters(redis, "lock:", "handed"), 1, within=15.0)
            await holding.release()
            # A third of the pause after which it would ask.
            async with asyncio.timeout(PATIENT.initial / 3):
                await (await waiting).release()


@pytest.mark.parametrize("ack", ["local", "replicas:1"])
async def test_who_acquires_after_it_does_so_on_the_new_master(
    place: Endpoint, pair: tuple[LockClient, LockClient], ack: str
) -> None:
    """READONLY has the client connect anew, whatever the lease waits for."""
    lock = pair[0].lock("n", ack=ack)
    await (await lock.acquire()).release()
    await place.promote()
    async with lock.hold(timeout=10), redis_asyncio.from_url(place.present.url) as redis:
        assert await redis.exists("lock:n") == 1


async def test_who_tries_after_it_does_so_on_the_new_master(
    place: Endpoint, pair: tuple[LockClient, LockClient]
) -> None:
    """A single attempt is answered by the new master: it is not refused with READONLY."""
    await place.promote()
    lease = await pair[0].lock("n").try_acquire()
    assert lease is not None
    await lease.release()


async def test_a_lease_held_through_it_is_kept(
    place: Endpoint, pair: tuple[LockClient, LockClient]
) -> None:
    """The renewal that the former master refuses is made at the new one."""
    async with pair[0].lock("n", ttl=4.0) as lease:
        await place.promote()
        await lease.extend(20.0)
        assert lease.validity > 4.0
        async with redis_asyncio.from_url(place.present.url) as redis:
            assert await redis.pttl("lock:n") > 4000


async def test_a_lease_that_the_new_master_does_not_know_is_lost(
    place: Endpoint, pair: tuple[LockClient, LockClient]
) -> None:
    """Leases are checked at the new master, not when they are due to be renewed."""
    held = await pair[0].lock("n", ttl=60.0).acquire()
    await place.promote()
    async with redis_asyncio.from_url(place.present.url) as redis:
        await redis.delete("lock:n")
    await (await pair[0].lock("other").acquire(timeout=10)).release()
    async with asyncio.timeout(5):
        await held.wait_lost()


async def test_a_release_after_it_frees_the_lock_at_the_new_master(
    place: Endpoint, pair: tuple[LockClient, LockClient]
) -> None:
    """What gives a lease back is sent again, too."""
    lease = await pair[0].lock("n").acquire()
    await place.promote()
    await lease.release()
    async with redis_asyncio.from_url(place.present.url) as redis:
        await eventually(lambda: redis.exists("lock:n"), 0)


async def test_a_hand_off_after_it_is_by_message(
    place: Endpoint, pair: tuple[LockClient, LockClient]
) -> None:
    """No inbox is left on the demoted server: nobody has to poll afterwards."""
    await place.promote()
    await _hand_over(place.present, *pair)


async def test_a_hand_off_to_who_waits_for_acknowledgement_is_by_message(
    place: Endpoint, pair: tuple[LockClient, LockClient]
) -> None:
    """The same where each lease waits for a replica."""
    await _hand_over(place.former, *pair, ack="replicas:1")
    await place.promote()
    await _hand_over(place.present, *pair, ack="replicas:1")


async def test_who_waits_through_it_goes_on_waiting_at_the_new_master(
    place: Endpoint, pair: tuple[LockClient, LockClient]
) -> None:
    """A waiter that asks again is queued there, and granted what the holder releases."""
    holding = await pair[0].lock("n", ttl=30.0).acquire()
    waiting = asyncio.create_task(pair[1].lock("n").acquire())
    async with redis_asyncio.from_url(place.present.url) as redis:
        await eventually(lambda: waiters(redis, "lock:", "n"), 1)
        await place.promote()
        await holding.release()
        await (await waiting).release()


async def test_who_asks_before_the_name_leads_to_the_new_master_waits_for_that(
    place: Endpoint, pair: tuple[LockClient, LockClient]
) -> None:
    """Calls are kept while the name leads to a replica, and are sent once it does not."""
    await place.promote(leads=False)
    before = place.proxy.connections
    waiting = asyncio.create_task(pair[0].lock("n").acquire())

    async def came_back() -> bool:
        return place.proxy.connections >= before + 2

    await eventually(came_back, True)
    place.proxy.lead_to(place.present.url)
    await (await waiting).release()
    await _hand_over(place.present, *pair)


async def test_a_server_that_stays_a_replica_is_not_stormed(
    place: Endpoint, pair: tuple[LockClient, LockClient]
) -> None:
    """Connections are made at growing pauses, and the error says what the server says."""
    await place.promote(leads=False)
    before = place.proxy.connections
    with pytest.raises(AcquireTimeout):
        await pair[0].lock("n").acquire(timeout=2.0)
    # At 0, 0.03, 0.06, 0.12, 0.24, 0.5 s and so on; under RESP2 the inbox as often.
    assert place.proxy.connections - before < 25


@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_replica_without_its_master_is_the_wrong_server_too(
    place: Endpoint, protocol: int
) -> None:
    """MASTERDOWN has the client connect anew as READONLY does."""
    async with client(place.url, protocol=protocol) as locks:
        lock = locks.lock("n")
        await (await lock.acquire()).release()
        async with redis_asyncio.from_url(place.former.url) as redis:
            await redis.config_set("replica-serve-stale-data", "no")
        await place.promote()
        async with redis_asyncio.from_url(place.former.url) as redis:
            await redis.execute_command("REPLICAOF", "127.0.0.1", 1)  # type: ignore[no-untyped-call, unused-ignore]
        await (await lock.acquire(timeout=10)).release()


async def test_a_demoted_node_of_a_quorum_votes_again_where_its_name_leads(
    place: Endpoint, nodes: Nodes
) -> None:
    """Without it the others would be too few."""
    urls = [place.url, *nodes.urls[:2]]
    async with LockClient.from_url(urls, quarantine=4.0) as locks:
        lock = locks.lock("n", ttl=4.0)
        await (await lock.acquire(timeout=10)).release()
        await place.promote()
        await (await lock.acquire(timeout=10)).release()
        nodes.servers[1].kill()
        async with lock.hold(timeout=15), redis_asyncio.from_url(place.present.url) as redis:
            assert await redis.exists("lock:n") == 1


async def test_many_locks_at_once_get_over_it(place: Endpoint) -> None:
    """Each of the calls in flight is sent again, in order, once."""
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(redis_asyncio.from_url(place.url))
        locks = [AsyncLock(redis, f"n{number}") for number in range(200)]
        async with locks[0]:
            pass

        async def visit(lock: AsyncLock) -> None:
            for _ in range(3):
                async with lock.hold(timeout=20):
                    await asyncio.sleep(0)

        tasks = [asyncio.create_task(visit(lock)) for lock in locks]
        await asyncio.sleep(0)
        await place.promote()
        await asyncio.gather(*tasks)
