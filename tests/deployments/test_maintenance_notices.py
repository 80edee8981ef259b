"""A server's notice that it moves, and whatever else it may push.

No open-source Redis sends these: a proxy puts them into the stream of a real server.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis.asyncio as redis_asyncio

from aiodistlock import LockClient
from aiodistlock.connection.maintenance_notices import Notice, read_notice
from tests.deployments.cluster import Cluster, remapped
from tests.deployments.demotion import Endpoint, endpoint
from tests.deployments.world import name_on
from tests.faults.world import PATIENT, client, eventually, waiters

pytestmark = pytest.mark.bounded(60)


@pytest.fixture
async def place(redis_binary: Path) -> AsyncIterator[Endpoint]:
    """One name before two servers."""
    async with endpoint(redis_binary) as made:
        yield made


@pytest.fixture
async def locks(place: Endpoint) -> AsyncIterator[LockClient]:
    """A client that is connected to the first server."""
    async with client(place.url) as made:
        await (await made.lock("warm").acquire()).release()
        yield made


def _bulk(text: str) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(text), text.encode())


def _push(*parts: str | int | None) -> bytes:
    packed = [
        b"_\r\n" if part is None else b":%d\r\n" % part if isinstance(part, int) else _bulk(part)
        for part in parts
    ]
    return b">%d\r\n" % len(packed) + b"".join(packed)


@pytest.mark.parametrize("named", [True, False], ids=["endpoint", "no endpoint"])
async def test_who_is_told_that_the_server_moves_is_at_the_next_one_before_it_goes(
    place: Endpoint, locks: LockClient, named: bool
) -> None:
    """To the endpoint that is named at once, or by the name in the half of the time."""
    lease = await locks.lock("n", ttl=30.0).acquire()
    await place.promote(leads=not named)
    target = f"127.0.0.1:{place.present.port}" if named else None
    place.proxy.push(_push("MOVING", 1, 2, target))
    async with redis_asyncio.from_url(place.present.url) as redis:

        async def arrived() -> bool:
            return any(int(each["sub"]) > 0 for each in await redis.client_list())

        await eventually(arrived, True)
    place.former.kill()
    await lease.extend(30.0)
    await lease.release()


async def test_a_grant_is_heard_at_the_next_server(place: Endpoint, locks: LockClient) -> None:
    """Who waits when the notice comes is queued and heard there."""
    async with client(place.url) as other, redis_asyncio.from_url(place.present.url) as redis:
        holding = await locks.lock("n", ttl=40.0).acquire()
        waiting = asyncio.create_task(other.lock("n", ttl=40.0, backoff=PATIENT).acquire())
        await eventually(lambda: waiters(redis, "lock:", "n"), 1)
        await place.promote()
        before = place.proxy.connections
        place.proxy.push(_push("MOVING", 1, 30, f"127.0.0.1:{place.present.port}"))

        async def asked() -> bool:
            found = await redis.client_list()
            return sum(int(each["sub"]) > 0 for each in found) == 2

        await eventually(asked, True)
        assert place.proxy.connections == before
        await holding.release()
        async with asyncio.timeout(PATIENT.initial / 2):
            await (await waiting).release()


async def test_an_endpoint_that_is_not_there_is_tried_once(
    place: Endpoint, locks: LockClient
) -> None:
    """After that the name leads on."""
    before = place.proxy.connections
    place.proxy.push(_push("MOVING", 1, 30, "127.0.0.1:1"))
    lease = await locks.lock("n").acquire(timeout=10)
    await lease.release()

    async def came_back() -> bool:
        await (await locks.lock("n").acquire(timeout=10)).release()
        return place.proxy.connections > before

    await eventually(came_back, True)


async def test_a_failover_behind_the_server_has_leases_checked(
    place: Endpoint, locks: LockClient
) -> None:
    """What was lost in it is known at once."""
    lease = await locks.lock("n", ttl=60.0).acquire()
    async with redis_asyncio.from_url(place.former.url) as redis:
        await redis.delete("lock:n")
    place.proxy.push(_push("FAILED_OVER", 1))
    async with asyncio.timeout(10):
        await lease.wait_lost()


@pytest.mark.parametrize("notice", [("FAILED_OVER", 1), ("MOVING", 1, 0, None)])
async def test_the_nodes_of_a_cluster_are_heard_as_well(
    cluster: Cluster, notice: tuple[str | int | None, ...]
) -> None:
    """Leases are checked after a failover, and a node that moves is left."""
    home = cluster.primaries()[0]
    name = name_on(cluster, home, "lock:")
    async with remapped(home) as (proxy, redis), LockClient(redis) as locks:
        lease = await locks.lock(name, ttl=60.0).acquire()
        assert proxy.requests["CLIENT"] > 0  # it asked for notices
        before = proxy.connections
        home.command("DEL", f"lock:{name}")
        proxy.push(_push(*notice))
        async with asyncio.timeout(10):
            await lease.wait_lost()
        assert proxy.connections == before + 1


ODD = {
    "MIGRATING": _push("MIGRATING", 1, 10),
    "MIGRATED": _push("MIGRATED", 1),
    "FAILING_OVER": _push("FAILING_OVER", 1, 10),
    "SMIGRATING": _push("SMIGRATING", 1, "1-200"),
    "SMIGRATED": b">3\r\n+SMIGRATED\r\n:1\r\n*1\r\n*3\r\n+a:1\r\n+b:2\r\n+1-200\r\n",
    "invalidate": b">2\r\n+invalidate\r\n*1\r\n+key\r\n",
    "invalidate all": _push("invalidate", None),
    "unknown": _push("SOMETHING", "new"),
    "number": _push(1, 2, 3),
    "MOVING, cut short": _push("MOVING", 1),
    "MOVING, no time": _push("MOVING", 1, "soon", "here:there"),
    "MOVING, no port": _push("MOVING", 1, 10, "somewhere"),
    "MOVING, nested": b">4\r\n+MOVING\r\n:1\r\n:1\r\n*1\r\n:1\r\n",
    "pattern": _push("pmessage", "a*", "ab", "hello"),
}


@pytest.mark.parametrize("raw", ODD.values(), ids=ODD)
async def test_other_pushes_break_nothing(place: Endpoint, locks: LockClient, raw: bytes) -> None:
    """The lease goes on, over the same connection."""
    before = place.proxy.connections
    async with locks.lock("n") as lease:
        place.proxy.push(raw * 3)
        await lease.extend(20.0)
        await (await locks.lock("other").acquire()).release()
    assert place.proxy.connections == before


@pytest.mark.parametrize(
    ("push", "notice"),
    [
        ([b"MOVING", 1, 10, b"host:6379"], Notice(0.0, ("host", 6379))),
        ([b"MOVING", 1, 10, b"[::1]:6379"], Notice(0.0, ("::1", 6379))),
        ([b"MOVING", 1, 10, None], Notice(5.0)),
        ([b"MOVING", 1, -10, None], Notice(0.0)),
        ([b"FAILED_OVER", 1], Notice(0.0)),
        ([b"MOVING"], None),
        ([b"message", b"channel", b"text"], None),
        ([], None),
    ],
)
def test_a_notice_is_read(push: list[object], notice: Notice | None) -> None:
    """What cannot be understood is none."""
    assert read_notice(push) == notice
