"""A cluster is reached as the user's client does: URLs, passwords, ACLs."""

import asyncio
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis as redis_sync
from redis.asyncio import RedisCluster

from aiodistlock import AsyncLock, LockClient, StoreUnavailable
from aiodistlock.deployments.urls import client_from_url
from aiodistlock.engines import shared_engines
from aiodistlock.testing.embedded import TlsFiles
from tests.deployments.cluster import Cluster
from tests.deployments.world import clients, granted, name_on, queued
from tests.servers import supports_tls

PASSWORD = "correct horse"

SCRIPTS = "+eval +evalsha +get +set +del +exists +pexpire +pttl +time"
QUEUE = "+zadd +zcard +zrange +zrank +zrem +zrevrange +zscore"
KEYS = "~lock:* ~t:* ~aiodistlock:*"

USERS = {
    "all that is used": "+spublish +ssubscribe +command|info &aiodistlock:inbox:*",
    "no COMMAND": "+spublish +ssubscribe &aiodistlock:inbox:*",
    "no SSUBSCRIBE": "+spublish +command|info &aiodistlock:inbox:*",
    "no SPUBLISH": "+ssubscribe +command|info &aiodistlock:inbox:*",
    "no channel": "+spublish +ssubscribe +command|info resetchannels",
}


@pytest.mark.parametrize("rights", USERS.values(), ids=USERS)
async def test_what_a_user_must_be_allowed(
    cluster: Cluster, cluster_namespace: str, rights: str
) -> None:
    """Scripts and CLUSTER SLOTS are needed; without channels waiters poll."""
    if not cluster.sharded:
        pytest.skip("these commands are those of Redis 7")
    acl = f"on >secret resetchannels {SCRIPTS} {QUEUE} {KEYS} +cluster|slots {rights}"
    for node in cluster.nodes:
        node.command("ACL", "SETUSER", "locks", "reset", *acl.split())
    try:
        async with clients(cluster, username="locks", password="secret") as (here, there):
            for _ in range(2):
                lease = await here.lock("n", namespace=cluster_namespace).acquire()
                waiting = asyncio.create_task(granted(there.lock("n", namespace=cluster_namespace)))
                # Real time: with no channel nothing tells that somebody waits.
                await asyncio.sleep(0.1)
                released = time.monotonic()
                await lease.release()
                when, newer = await waiting
                assert when - released < 5.0
                await newer.release()
    finally:
        for node in cluster.nodes:
            node.command("ACL", "DELUSER", "locks")


async def test_a_wrong_password_is_said_at_once(cluster: Cluster) -> None:
    """StoreUnavailable, not half a minute of trying."""
    async with clients(cluster, 1, username="nobody", password="wrong") as (locks,):
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="invalid username"):
            await locks.lock("n").acquire()
        assert time.monotonic() - began < 10.0


async def test_a_cluster_that_is_not_there_ends_an_acquire_by_its_bounds() -> None:
    """AcquireTimeout or StoreUnavailable, whichever bound comes first; the client closes."""
    url = f"redis+cluster://127.0.0.1:{1}"
    async with LockClient.from_url(url, unavailable_after=1.2) as locks:
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            await locks.lock("n").acquire(timeout=0.2)
        assert time.monotonic() - began < 1.2
        with pytest.raises(StoreUnavailable):
            await locks.lock("n").acquire()
        assert time.monotonic() - began < 6.0


# The administrator's: redis-py leaves one of its blocking sockets open now and then, and
# the library under test has none.
@pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.bounded(60)
async def test_tls_to_every_node(redis_binary: Path, tls_files: TlsFiles) -> None:
    """With ``rediss+cluster://`` all primaries are reached, and verified; so are moved slots."""
    if not supports_tls(redis_binary):
        pytest.skip(f"{redis_binary} was built without TLS")
    with ExitStack() as stack:
        cluster = Cluster(redis_binary, stack, shards=2, replicas=0, tls=tls_files)
        async with clients(cluster, ssl_ca_certs=str(tls_files.ca)) as (here, there):
            for node in cluster.nodes:
                name = name_on(cluster, node, "lock:")
                mine, theirs = (each.lock(name, ttl=20.0) for each in (here, there))
                lease = await mine.acquire()
                waiting = asyncio.create_task(granted(theirs))
                await queued(cluster, mine)
                (target,) = cluster.others(f"lock:{name}")
                await asyncio.to_thread(cluster.migrate, f"lock:{name}", target)
                await lease.extend(20.0)
                await lease.release()
                _, newer = await waiting
                await newer.release()
        async with clients(cluster, 1, unavailable_after=2.0) as (stranger,):
            with pytest.raises(StoreUnavailable, match="certificate"):
                await stranger.lock("n").acquire(timeout=9)


async def test_locks_on_one_cluster_client_share_one_lock_client(
    cluster: Cluster, cluster_namespace: str
) -> None:
    """As on a single Redis: the tasks of a process are one cohort."""
    redis = cluster.client()
    try:
        locks = [AsyncLock(redis, "n", namespace=cluster_namespace) for _ in range(2)]
        lease = await locks[0].acquire()
        waiting = asyncio.create_task(locks[1].acquire())
        await asyncio.sleep(0)
        await lease.release()
        newer = await waiting
        assert newer.token == lease.token
        await newer.release()
    finally:
        await shared_engines(redis).aclose()
        await redis.aclose()


def test_a_blocking_cluster_client_is_refused() -> None:
    """With words that say what is expected."""
    blocking = object.__new__(redis_sync.RedisCluster)
    blocking.nodes_manager = None  # type: ignore[assignment]  # it is only looked for
    with pytest.raises(TypeError, match="asyncio"):
        AsyncLock(blocking, "n")  # type: ignore[arg-type]  # that is the mistake


def test_a_cluster_url_is_read() -> None:
    """Several hosts, credentials and settings; TLS by its scheme."""
    url = "redis+cluster://user:pa%40ss@h1:7000,h2,[::1]:7002?socket_connect_timeout=1.5"
    redis = client_from_url(url, client_name="me")
    assert isinstance(redis, RedisCluster)
    places = {(node.host, node.port) for node in redis.nodes_manager.startup_nodes.values()}
    assert places == {("h1", 7000), ("h2", 6379), ("::1", 7002)}
    settings = redis.nodes_manager.connection_kwargs
    assert (settings["username"], settings["password"]) == ("user", "pa@ss")
    assert settings["socket_connect_timeout"] == 1.5
    assert settings["client_name"] == "me"
    secure = client_from_url("rediss+cluster://h1", ssl_check_hostname=False)
    assert isinstance(secure, RedisCluster)
    assert "SSL" in secure.nodes_manager.connection_kwargs["connection_class"].__name__


@pytest.mark.parametrize(
    "url",
    [
        "redis+cluster://",
        "redis+cluster://h1:7000,,h2",
        "redis+cluster://h1:port",
        "redis+cluster://h1:99999",
        "redis+cluster://h1/3",
        "redis+cluster://:secret@h1:port",
    ],
)
def test_a_wrong_cluster_url_is_refused(url: str) -> None:
    """Before any I/O, and without telling the password."""
    with pytest.raises(ValueError, match=r"host|database|port") as caught:
        client_from_url(url)
    assert "secret" not in str(caught.value)
