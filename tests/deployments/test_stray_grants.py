"""A grant that its sender takes for unheard must not be heard elsewhere."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis as redis_sync

from aiodistlock import LockClient
from aiodistlock.core.keys import LockKeys
from aiodistlock.core.slots import slot_of
from aiodistlock.deployments.cluster.connection import ClusterConnection
from aiodistlock.deployments.cluster.primary_pipe import PrimaryPipe
from aiodistlock.protocol.grant_message import prove
from aiodistlock.testing.discovery import LOOPBACK
from aiodistlock.testing.embedded import EmbeddedRedis
from tests.deployments.cluster import Cluster
from tests.deployments.world import PATIENT, clients, granted, queued

_INBOX = "aiodistlock:inbox:nobody"


@contextmanager
def _heard_at(server: EmbeddedRedis) -> Iterator[Any]:
    """Subscribe to an inbox that nobody has."""
    with redis_sync.from_url(server.url) as client, client.pubsub() as heard:
        heard.subscribe(_INBOX)
        assert heard.get_message(timeout=5)["type"] == "subscribe"
        yield heard


async def _released_with_queue(url: str, *waiters: str) -> None:
    """Release a lock for which somebody waits with these inboxes, in this order."""
    async with LockClient.from_url(url) as locks:
        lease = await locks.lock("n", ttl=20.0).acquire()
        with redis_sync.from_url(url) as raw:
            records = {
                f"5000 {inbox} secret t{number}": number for number, inbox in enumerate(waiters)
            }
            raw.zadd("aiodistlock:queue:{lock:n}", records)
        await lease.release()


async def test_a_replica_does_not_hear_of_a_grant(redis_binary: Path) -> None:
    """Whoever is still connected to a demoted master was passed over by the new one."""
    with ExitStack() as stack:
        args = ["--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0", "--hz", "50"]
        master = stack.enter_context(EmbeddedRedis(binary=redis_binary, args=args))
        follow = [*args, "--replicaof", LOOPBACK, str(master.port)]
        replica = stack.enter_context(EmbeddedRedis(binary=redis_binary, args=follow))
        raw = stack.enter_context(redis_sync.from_url(master.url))
        while raw.execute_command("WAIT", 1, 1000) < 1:
            pass
        heard = stack.enter_context(_heard_at(replica))
        await _released_with_queue(master.url, _INBOX)
        raw.publish(_INBOX, "the end")  # this one is replicated, behind the script
        assert heard.get_message(timeout=5)["data"] == b"the end"
        assert not raw.exists("lock:n"), "nobody heard it, so the lock is free"


async def test_who_is_passed_over_has_no_other_s_token(embedded_redis: EmbeddedRedis) -> None:
    """Each grant has a fencing token of its own, also those that nobody seems to hear."""
    with _heard_at(embedded_redis) as heard:
        await _released_with_queue(embedded_redis.url, "dead:1", "dead:2", _INBOX)
        _, _, fence, server_us, *_ = heard.get_message(timeout=5)["data"].split()
    assert int(fence) == int(server_us) + 2


def _pipe(locks: LockClient, slot: int) -> PrimaryPipe:
    """Return the pipe on which a client hears a slot's grants."""
    connection = locks._engine("n", "local").connection
    assert isinstance(connection, ClusterConnection)
    (pipe,) = (each for each in connection._pipes if slot in each.subscribed)
    return pipe


@pytest.mark.bounded(60)
async def test_a_grant_is_asked_about_before_the_node_has_answered(
    cluster: Cluster, cluster_namespace: str
) -> None:
    """A replica lets subscribe as well, and hears what its primary granted to nobody."""
    if not cluster.sharded:
        pytest.skip("no sharded channels before Redis 7: waiters poll")
    key = f"{cluster_namespace}n"
    slot = slot_of(key.encode())
    async with clients(cluster) as (one, two):
        mine, theirs = (
            each.lock("n", ttl=20.0, namespace=cluster_namespace, backoff=PATIENT)
            for each in (one, two)
        )
        lease = await mine.acquire()
        waiting = asyncio.create_task(granted(theirs))
        await queued(cluster, mine)
        pipe = _pipe(two, slot)
        while slot in pipe._unproven:
            await asyncio.sleep(0.002)
        pipe._say(pipe._subscriptions_to(slot))
        while slot not in pipe._unproven:
            await asyncio.sleep(0.002)
        (token,) = (await mine.inspect()).waiters
        now = time.time_ns() // 1000
        with redis_sync.from_url(f"redis://{LOOPBACK}:{pipe.address.port}") as raw:
            grant = f"2 {lease.fencing_token + 1} {now} 20000 {token} {key}".encode()
            # As the primary would: by what the waiter's record says.
            (record,) = raw.zrange(LockKeys(key, "").queue, 0, -1)
            proof = prove(grant, record.split(b" ")[2])
            raw.execute_command("SPUBLISH", pipe._router.channels(slot)[0], proof + b" " + grant)
        # The answer to what it asks instead.
        while slot in pipe._unproven:
            await asyncio.sleep(0.002)
        assert not waiting.done()
        assert lease.is_held
        await lease.release()
        _, newer = await waiting
        await newer.release()


async def test_a_grant_of_another_edition_on_a_cluster_is_asked_about(
    cluster: Cluster, cluster_namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    """However many stand before it, and in whatever words: the token at the key tells."""
    if not cluster.sharded:
        pytest.skip("no sharded channels before Redis 7: waiters poll")
    keys = LockKeys("n", cluster_namespace)
    async with clients(cluster) as (one, two):
        mine, theirs = (
            each.lock("n", ttl=20.0, namespace=cluster_namespace, backoff=PATIENT)
            for each in (one, two)
        )
        lease = await mine.acquire()
        waiting = asyncio.create_task(granted(theirs))
        await queued(cluster, mine)
        pipe = _pipe(two, keys.slot)
        while keys.slot in pipe._unproven:
            await asyncio.sleep(0.002)
        with redis_sync.from_url(f"redis://{LOOPBACK}:{pipe.address.port}") as raw:
            (record,) = raw.zrange(keys.queue, 0, -1)
            _, inbox, secret, token = record.split(b" ")
            raw.zrem(keys.queue, record)
            raw.set(keys.key, token + b" %d" % (lease.fencing_token + 1), px=5000)
            message = b"3 is how they say it"
            raw.execute_command("SPUBLISH", inbox, prove(message, secret) + b" " + message)
        async with asyncio.timeout(2):
            _, newer = await waiting
        assert newer.token.encode() == token
        assert "edition 3 of the wire" in caplog.text
        assert lease.token != newer.token
        await newer.release()
