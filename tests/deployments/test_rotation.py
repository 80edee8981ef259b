"""Credentials that are revoked, rotated and restored under connected clients."""

import asyncio
import logging
from collections.abc import Iterator

import pytest
import redis.asyncio as redis_asyncio
from anyio import fail_after
from redis.asyncio.sentinel import Sentinel

from aiodistlock import LockClient, StoreUnavailable
from aiodistlock.testing.embedded import EmbeddedRedis
from tests.deployments.cluster import Cluster
from tests.deployments.quorum import Nodes
from tests.deployments.rotation import RIGHTS, Guarded, Provider, guarded
from tests.deployments.sentinel import MASTER, SentinelDeployment
from tests.faults.world import PATIENT, eventually, waiters
from tests.proxy import ChaosProxy, Do, Replace, on

pytestmark = pytest.mark.bounded(60)


@pytest.fixture
def one(embedded_redis: EmbeddedRedis) -> Iterator[Guarded]:
    """One server."""
    with guarded(embedded_redis.url, [embedded_redis.url]) as place:
        yield place


@pytest.fixture
def three(nodes: Nodes) -> Iterator[Guarded]:
    """A quorum of three."""
    with guarded(nodes.urls[:3], nodes.urls[:3]) as place:
        yield place


@pytest.fixture
def sharded(cluster: Cluster) -> Iterator[Guarded]:
    """A cluster."""
    with guarded(cluster.url, [node.server.url for node in cluster.nodes]) as place:
        yield place


@pytest.fixture(params=["one", "three", "sharded"])
def place(request: pytest.FixtureRequest) -> Guarded:
    """Each deployment."""
    found: Guarded = request.getfixturevalue(request.param)
    return found


async def _waits(task: asyncio.Task[object]) -> None:
    """Check that a task goes on waiting."""
    # Real time: that nothing happens can only be told by waiting for a while.
    await asyncio.wait([task], timeout=0.4)
    assert not task.done(), task.exception()


@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_rotated_password_is_asked_for_until_the_server_takes_it(
    place: Guarded, protocol: int
) -> None:
    """WRONGPASS after a good start passes: acquires wait for the provider's new password."""
    provider = Provider("locker", "old")
    async with place.client(credential_provider=provider, protocol=protocol) as locks:
        lock = locks.lock("n", ttl=20.0)
        await (await lock.acquire(timeout=10)).release()
        place.acl("<old", ">new")
        await (await lock.acquire(timeout=10)).release()  # who is in stays in
        place.expel()
        waiting = asyncio.create_task(lock.acquire())
        await _waits(waiting)
        provider.now = ("locker", "new")
        with fail_after(10):
            await (await waiting).release()


async def test_a_user_that_is_deleted_and_made_again_is_let_in_again(place: Guarded) -> None:
    """A password of the client's settings is tried again, too; the lease outlives it."""
    async with place.client(username="locker", password="old") as locks:
        lease = await locks.lock("held", ttl=30.0).acquire(timeout=10)
        await place.heard_from_all(locks)  # or one node of a quorum may not have the lease
        place.everywhere("ACL", "DELUSER", "locker")
        waiting = asyncio.create_task(locks.lock("n").acquire())
        await _waits(waiting)
        place.acl("on", ">old", *RIGHTS)
        with fail_after(10):
            await (await waiting).release()
        await place.heard_from_all(locks)
        await lease.extend(30.0)
        await lease.release()


@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_user_that_is_switched_off_and_on_has_its_grants_by_message(
    one: Guarded, embedded_redis: EmbeddedRedis, protocol: int
) -> None:
    """The second connection of RESP2 is let in again as well."""
    options = {"username": "locker", "password": "old", "protocol": protocol}
    async with (
        one.client(**options) as here,
        one.client(**options) as there,
        redis_asyncio.from_url(embedded_redis.url) as redis,
    ):

        async def hand_over() -> None:
            holding = await here.lock("n", ttl=30.0).acquire(timeout=10)
            waiting = asyncio.create_task(there.lock("n", ttl=30.0, backoff=PATIENT).acquire())
            await eventually(lambda: waiters(redis, "lock:", "n"), 1, within=10.0)
            await holding.release()
            with fail_after(PATIENT.initial / 3):
                await (await waiting).release()

        await hand_over()
        one.acl("off")
        one.expel()
        waiting = asyncio.create_task(there.lock("other").acquire())
        await _waits(waiting)
        one.acl("on")
        await (await waiting).release()
        await hand_over()


async def test_credentials_that_stay_revoked_end_in_an_error_that_says_so(one: Guarded) -> None:
    """After ``unavailable_after`` the server's own word is the cause."""
    async with one.client(username="locker", password="old", unavailable_after=1.0) as locks:
        lock = locks.lock("n")
        await (await lock.acquire()).release()
        one.acl("<old", ">new")
        one.expel()
        with pytest.raises(StoreUnavailable, match=r"(?i)invalid username-password"):
            await lock.acquire()


async def test_revoked_credentials_are_not_stormed(
    embedded_redis: EmbeddedRedis, one: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    """Connections are tried at growing pauses, and one line of the log warns."""
    caplog.set_level(logging.WARNING, "aiodistlock")
    async with (
        ChaosProxy.before(embedded_redis.url) as proxy,
        LockClient.from_url(proxy.url, username="locker", password="old") as locks,
    ):
        await (await locks.lock("n").acquire()).release()
        one.acl("<old", ">new")
        one.expel()
        before = proxy.connections
        with pytest.raises(TimeoutError):
            await locks.lock("n").acquire(timeout=2.0)
        assert proxy.connections - before < 15
    assert len(caplog.records) == 1


@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_user_without_rights_is_changed_for_the_one_that_is_named_now(
    place: Guarded, protocol: int
) -> None:
    """NOPERM on an open connection has a provider asked who we are now."""
    provider = Provider("locker", "old")
    place.acl("reset", "on", ">new", *RIGHTS, user="other")
    async with place.client(credential_provider=provider, protocol=protocol) as locks:
        lock = locks.lock("n")
        await (await lock.acquire(timeout=10)).release()
        place.acl("reset")
        provider.now = ("other", "new")
        await (await lock.acquire(timeout=10)).release()


@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_right_that_stays_missing_is_an_error_at_once(
    embedded_redis: EmbeddedRedis, one: Guarded, protocol: int
) -> None:
    """A provider is asked once; a password of the settings cannot change, and is not."""
    one.acl("reset", "on", ">old", "allchannels", "allcommands", "~*lock:*")
    for options, most in (
        ({"credential_provider": Provider("locker", "old")}, 2),
        ({"username": "locker", "password": "old"}, 0),
    ):
        async with (
            ChaosProxy.before(embedded_redis.url) as proxy,
            LockClient.from_url(proxy.url, protocol=protocol, **options) as locks,
        ):
            await (await locks.lock("n").acquire()).release()
            before = proxy.connections
            with fail_after(5):
                for _ in range(20):
                    with pytest.raises(StoreUnavailable, match=r"(?i)NOPERM|permission"):
                        await locks.lock("n", namespace="elsewhere:").acquire()
            assert proxy.connections - before <= most


@pytest.mark.parametrize("word", ["NOAUTH Authentication required.", "WRONGPASS no longer"])
@pytest.mark.parametrize("protocol", [2, 3])
async def test_who_is_not_known_any_more_authenticates_anew(
    embedded_redis: EmbeddedRedis, word: str, protocol: int
) -> None:
    """A token that ran out is told so over the open connection: the next one brings another."""
    async with (
        ChaosProxy.before(embedded_redis.url) as proxy,
        LockClient.from_url(proxy.url, protocol=protocol) as locks,
    ):
        lock = locks.lock("n")
        await (await lock.acquire()).release()
        number = proxy.counts["reply", "EVALSHA"] + 1
        proxy.rules = [on("reply", "EVALSHA", Replace(f"-{word}\r\n".encode()), number=number)]
        before = proxy.connections
        await (await lock.acquire(timeout=10)).release()
        assert proxy.connections == before + 1
        proxy.rules = [on("reply", "EVALSHA", Replace(f"-{word}\r\n".encode()))]
        with pytest.raises(StoreUnavailable, match=word.partition(" ")[0]):
            await lock.acquire()


@pytest.mark.parametrize("protocol", [2, 3])
async def test_who_was_sent_again_before_authenticates_anew_all_the_same(
    embedded_redis: EmbeddedRedis, protocol: int
) -> None:
    """Once for each connection, however often the request itself has been sent."""
    async with (
        ChaosProxy.before(embedded_redis.url) as proxy,
        LockClient.from_url(proxy.url, protocol=protocol) as locks,
    ):
        lock = locks.lock("n")
        await (await lock.acquire()).release()
        number = proxy.counts["reply", "EVALSHA"] + 1
        refusal = Replace(b"-NOAUTH Authentication required.\r\n")
        proxy.rules = [
            on("reply", "EVALSHA", Do.CUT_BEFORE, number=number),
            on("reply", "EVALSHA", refusal, number=number + 1),
        ]
        before = proxy.connections
        await (await lock.acquire(timeout=10)).release()
        assert proxy.connections == before + 2


async def test_sentinels_whose_own_password_is_rotated_are_asked_with_the_new_one(
    sentinels: SentinelDeployment,
) -> None:
    """Meanwhile what is connected works; then the next master is found, and the lease is kept."""

    def let_in(*rules: str) -> None:
        for sentinel in sentinels.sentinels:
            sentinels.ask(sentinel, "ACL", "SETUSER", "asker", *rules)
            sentinels.ask(sentinel, "CLIENT", "KILL", "USER", "asker")

    let_in("on", ">old", *RIGHTS)
    provider = Provider("asker", "old")
    manager = Sentinel(  # type: ignore[no-untyped-call]  # redis-py's
        sentinels.addresses, sentinel_kwargs={"credential_provider": provider}
    )
    async with manager.master_for(MASTER) as redis, LockClient(redis) as locks:
        lease = await locks.lock("held", ttl=30.0).acquire(timeout=10)
        let_in("<old", ">new")
        await lease.extend(30.0)
        former = sentinels.master
        assert sentinels.ask(former, "WAIT", "2", "2000") == 2
        former.kill()
        waiting = asyncio.create_task(locks.lock("n").acquire())
        await sentinels.failed_over(former)
        await _waits(waiting)
        provider.now = ("asker", "new")
        with fail_after(10):
            await (await waiting).release()
        await lease.extend(30.0)
        await lease.release()
