"""What the network brings of a connection that was given up, on deployments of several servers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis as redis_sync
import redis.asyncio as redis_asyncio
from redis.asyncio.sentinel import SentinelManagedConnection
from redis.exceptions import ConnectionError as RedisConnectionError

from aiodistlock import AsyncLock, Lease, LockClient
from aiodistlock.protocol import scripts
from aiodistlock.testing.discovery import LOOPBACK
from aiodistlock.testing.embedded import EmbeddedRedis
from tests.deployments.cluster import Cluster, Node, remapped
from tests.deployments.demotion import Endpoint, endpoint
from tests.deployments.quorum import Nodes, warm
from tests.deployments.sentinel import MASTER, SentinelDeployment
from tests.deployments.world import name_on
from tests.faults.world import SCRIPTS, client, eventually, load_scripts
from tests.late import Straggler, stale
from tests.proxy import ChaosProxy

pytestmark = pytest.mark.bounded(60)

ON_CLUSTER = {
    getattr(scripts.ON_CLUSTER, name).sha.decode(): name.upper()
    for name in ("acquire", "renew", "pass_on", "release", "abandon", "inspect")
}
ON_CLUSTER[scripts.RENEW_ALONE.sha.decode()] = "RENEW_ALONE"
ON_NODES = {
    getattr(scripts, name).sha.decode(): name for name in ("VOTE", "UNVOTE", "KEEP", "RENEW_VOTE")
}


class State(NamedTuple):
    """What a server has of a lock, times to ten seconds."""

    holder: bytes | None
    remaining: int
    fence: bytes | None


def state(redis: Any, key: str = "lock:n") -> State:
    """Look at a lock."""
    remaining = round(redis.pttl(key), -4)
    return State(redis.get(key), remaining, redis.get("aiodistlock:fence"))


class Watched(NamedTuple):
    """A cluster, what leads to one of its nodes, and a lock whose key is there."""

    cluster: Cluster
    home: Node
    newcomer: Node
    proxy: ChaosProxy
    there: redis_asyncio.Redis
    lock: AsyncLock
    key: str


async def kept_though_late(proxy: ChaosProxy, here: LockClient, ack: str = "local") -> Lease:
    """Pass on to nobody: lost with one connection, late on the next, done over a third."""
    late = Straggler(proxy, "PASS_ON", lost_before=1)
    lock = here.lock("n", ttl=60.0, ack=ack)
    lease = await lock.acquire()
    waiting = asyncio.create_task(lock.acquire())
    await asyncio.sleep(0)  # it stands behind us
    await lease.release()
    await late.kept()
    kept = await waiting
    await kept.extend(100.0)
    await late.arrives()
    return kept


@pytest.fixture
async def place(redis_binary: Path) -> AsyncIterator[Endpoint]:
    """A master behind a proxy, with a replica."""
    async with endpoint(redis_binary) as made:
        made.proxy.script_names = SCRIPTS
        yield made


@pytest.mark.parametrize("protocol", [3, 2])
async def test_with_acknowledgements(place: Endpoint, protocol: int) -> None:
    """A lease that replicas have acknowledged is neither passed on nor shortened late."""
    async with (
        redis_asyncio.from_url(place.former.url) as redis,
        client(place.url, protocol=protocol, handoff_span=0.0) as here,
    ):
        await load_scripts(redis)
        kept = await kept_though_late(place.proxy, here, "replicas:1")
        assert await stale(redis) == 1
        assert await redis.get("lock:n") == kept._process_lease.value
        assert 90_000 < await redis.pttl("lock:n") <= 100_000
        await kept.release()


async def test_behind_sentinels(sentinels: SentinelDeployment) -> None:
    """Nor there, and the next master knows what is void."""
    master = sentinels.master
    async with ChaosProxy.before(master.url) as proxy:
        proxy.script_names = SCRIPTS
        for sentinel in sentinels.sentinels:
            sentinels.ask(sentinel, "SENTINEL", "REMOVE", MASTER)
            sentinels.ask(sentinel, "SENTINEL", "MONITOR", MASTER, LOOPBACK, str(proxy.port), "2")
        async with (
            redis_asyncio.from_url(master.url) as redis,
            sentinels.locks(handoff_span=0.0) as here,
        ):
            await load_scripts(redis)
            kept = await kept_though_late(proxy, here)
            assert await stale(redis) == 1
            assert await redis.get("lock:n") == kept._process_lease.value
            await kept.release()
            (void,) = sentinels.ask(master, "KEYS", "aiodistlock:void:*")
            noted = sentinels.ask(master, "GET", void)
            sentinels.ask(master, "WAIT", "2", "2000")
    others = [each for each in sentinels.servers if each is not master]
    assert [sentinels.ask(each, "GET", void) for each in others] == [noted] * 2


def _through(proxies: dict[int, ChaosProxy]) -> type[SentinelManagedConnection]:
    """Have connections to a master go through its proxy, wherever the sentinels lead."""

    class Through(SentinelManagedConnection):
        async def connect_to(self, address: tuple[str, int]) -> None:
            # Untyped in redis-py, in some of its versions.
            await super().connect_to((LOOPBACK, proxies[address[1]].port))  # type: ignore[no-untyped-call, unused-ignore]

    return Through


@pytest.mark.parametrize("how", ["asked for", "frozen"])
async def test_past_a_failover(sentinels: SentinelDeployment, how: str) -> None:
    """What the former master gets late is nothing to the next one, nor what that gets late."""
    former = sentinels.master
    async with AsyncExitStack() as stack:
        proxies: dict[int, ChaosProxy] = {}
        for server in sentinels.servers:
            proxies[server.port] = await stack.enter_async_context(ChaosProxy.before(server.url))
            proxies[server.port].script_names = SCRIPTS
            async with redis_asyncio.from_url(server.url) as redis:
                await load_scripts(redis)
        connections = _through(proxies)
        redis = await stack.enter_async_context(sentinels.redis(connection_class=connections))
        here = await stack.enter_async_context(LockClient(redis, handoff_span=0.0))
        lock = here.lock("n", ttl=60.0)
        late = Straggler(proxies[former.port], "PASS_ON")
        lease = await lock.acquire()
        waiting = asyncio.create_task(lock.acquire())
        await asyncio.sleep(0)  # it stands behind us
        await lease.release()
        await late.seen()
        assert sentinels.ask(former, "WAIT", "2", "2000") == 2
        if how == "frozen":
            former.freeze()
        else:
            sentinels.ask(sentinels.sentinels[0], "SENTINEL", "FAILOVER", MASTER)
        await sentinels.failed_over(former)
        kept = await waiting
        new = sentinels.master
        there = await stack.enter_async_context(redis_asyncio.from_url(new.url))

        async def untouched(server: EmbeddedRedis) -> bool:
            def look() -> bool:
                mine = sentinels.ask(server, "GET", "lock:n") == kept._process_lease.value
                return mine and 60_000 < int(sentinels.ask(server, "PTTL", "lock:n")) <= 100_000

            return await asyncio.to_thread(look)

        async def extended() -> bool:
            await kept.extend(100.0)
            return await untouched(new)

        async def in_step() -> bool:
            try:
                return await untouched(former)
            except RedisConnectionError:  # it has just been told to follow
                return False

        # Perhaps the former master serves us yet, and what it is told is lost (P2).
        await eventually(extended, True, within=15.0)
        await late.kept()
        arriving = asyncio.create_task(late.arrives())
        former.thaw()
        await arriving
        assert await untouched(new)
        await eventually(in_step, True, within=20.0)
        late = Straggler(proxies[new.port], "RENEW")
        extending = asyncio.create_task(kept.extend(20.0))
        await late.kept()
        await extending
        await kept.extend(100.0)
        await late.arrives()
        assert await stale(there) == 1
        assert await untouched(new)
        await kept.release()


@pytest.fixture
async def watched(growing: tuple[Cluster, Node]) -> AsyncIterator[Watched]:
    """A client of that cluster, which reaches the home of its lock through a proxy."""
    cluster, newcomer = growing
    home = cluster.nodes[0]
    url = f"redis://{LOOPBACK}:{home.port}"
    async with (
        remapped(home, script_names=ON_CLUSTER) as (proxy, redis),
        redis_asyncio.from_url(url) as there,
        LockClient(redis) as here,
    ):
        name = name_on(cluster, home, "lock:")
        lock = here.lock(name, ttl=60.0, auto_renew=False)
        async with lock:
            pass
        yield Watched(cluster, home, newcomer, proxy, there, lock, f"lock:{name}")


async def test_on_a_cluster_while_a_slot_comes_and_goes(watched: Watched) -> None:
    """What is void is noted in the slot: by its next owner, for the former one as well."""
    cluster, home, newcomer, proxy, there, lock, key = watched
    for moves in (False, True):
        before = await stale(there)
        lease = await lock.acquire()
        late = Straggler(proxy, "RENEW")
        extending = asyncio.create_task(lease.extend(20.0))
        if moves:
            await late.seen()
            await asyncio.to_thread(cluster.migrate, key, newcomer)
        await late.kept()
        await extending
        await lease.extend(100.0)
        if moves:
            await asyncio.to_thread(cluster.migrate, key, home)
        await late.arrives()
        assert 90_000 < await there.pttl(key) <= 100_000
        assert await stale(there) == before + 1
        await lease.release()


async def test_on_a_cluster_while_a_slot_is_on_its_way(watched: Watched) -> None:
    """What is void cannot be noted then: a late renewal for the key alone shortens nothing."""
    cluster, _, newcomer, proxy, there, lock, key = watched
    lease = await lock.acquire()
    await asyncio.to_thread(cluster.begin_migration, key, newcomer)
    late = Straggler(proxy, "RENEW_ALONE")
    extending = asyncio.create_task(lease.extend(20.0))
    await late.kept()
    await extending
    await lease.extend(100.0)
    await late.arrives()
    assert 90_000 < await there.pttl(key) <= 100_000
    await lease.release()


@pytest.fixture
async def fifth(nodes: Nodes) -> AsyncIterator[tuple[ChaosProxy, LockClient]]:
    """A client of a quorum whose fifth node is behind a proxy, all warm."""
    async with ChaosProxy.before(nodes.urls[4]) as proxy:
        proxy.script_names = ON_NODES
        urls = [*nodes.urls[:4], proxy.url]
        async with LockClient.from_url(urls, handoff_span=0.0) as here:
            await warm(here)
            for node in range(5):
                for name in ON_NODES.values():
                    nodes.redis(node).script_load(getattr(scripts, name).source)
            yield proxy, here


async def answered(proxy: ChaosProxy, name: str, lease: Lease, ttl: float) -> None:
    """Extend a lease, also on the node behind the proxy."""
    count = proxy.counts["reply", name] + 1
    while proxy.counts["reply", name] < count:
        # A node that just broke may not be asked yet.
        await lease.extend(ttl)
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("name", ["VOTE", "UNVOTE", "KEEP", "RENEW_VOTE"])
async def test_on_a_node_of_a_quorum(
    nodes: Nodes, fifth: tuple[ChaosProxy, LockClient], name: str
) -> None:
    """No vote is given for nobody, taken back, kept or shortened late."""
    proxy, here = fifth
    node: redis_sync.Redis = nodes.redis(4)
    lock: AsyncLock = here.lock("n", ttl=20.0)
    if name == "VOTE":
        late = Straggler(proxy, name)
        lease = await lock.acquire()
        await late.kept()
    elif name == "UNVOTE":
        lease = await lock.acquire()
        late = Straggler(proxy, name)
        await lease.release()
        await late.kept()
        lease = await lock.acquire()
    elif name == "KEEP":
        lease = await lock.acquire()
        waiting = asyncio.create_task(lock.acquire())
        await asyncio.sleep(0)
        late = Straggler(proxy, name)
        await lease.release()
        await late.kept()
        lease = await waiting
    else:
        lease = await lock.acquire()
        late = Straggler(proxy, name)
        await lease.extend(5.0)
        await late.kept()
    await answered(proxy, "RENEW_VOTE", lease, 50.0)
    if name == "VOTE":
        taken = proxy.counts["reply", "UNVOTE"] + 1
        await lease.release()
        await proxy.seen("reply", "UNVOTE", taken)
    before = state(node)
    await late.arrives()
    assert state(node) == before
    assert node.info("errorstats")["errorstat_STALE"]["count"] == 1
    if name != "VOTE":
        await lease.release()
