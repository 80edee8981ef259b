"""A quorum whose nodes lose data, time, or messages: P1 where it is promised, else P2."""

import asyncio
import sqlite3
import time
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path

import pytest
from anyio import fail_after

from aiodistlock import AcquireTimeout, LeaseLost, LockClient, StoreUnavailable
from aiodistlock.core.clock import wall_us
from aiodistlock.core.keys import LockKeys, fence_key
from aiodistlock.deployments.quorum import deployment as quorum
from aiodistlock.protocol import scripts
from tests.deployments.quorum import EAGER, Nodes, all_ready, warm
from tests.proxy import ChaosProxy, Do, Hold, on
from tests.redis.shifted import build_shim, shifted_server

SCRIPTS = {
    getattr(scripts, name).sha.decode(): name for name in ("VOTE", "UNVOTE", "RENEW_VOTE", "KEEP")
}


def _lose_data(nodes: Nodes, node: int, how: str) -> None:
    if how == "flushed":
        nodes.redis(node).flushall()
    else:
        nodes.servers[node].restart()


@pytest.mark.parametrize("how", ["flushed", "restarted"])
async def test_a_node_without_its_data_has_no_say(nodes: Nodes, how: str) -> None:
    """A node that forgot its vote must not give it again while that lease may last."""
    async with nodes.client() as one, nodes.client() as other:
        await warm(one)
        for server in nodes.servers[3:]:
            server.freeze()
        lease = await one.lock("a", ttl=20.0).acquire()
        for server in nodes.servers[3:]:
            server.thaw()
        await nodes.soon(lambda: nodes.holders("a"), [lease.token] * 5)
        # As if the two had never heard of it.
        nodes.redis(3).delete("lock:a")
        nodes.redis(4).delete("lock:a")
        _lose_data(nodes, 0, how)
        # Three nodes are free now; but one of them has only forgotten.
        with pytest.raises((AcquireTimeout, StoreUnavailable)):
            await other.lock("a", backoff=EAGER).acquire(timeout=0.4)
        lease.check()
        # That a majority knows nothing of it any more is told at the end, if it can be asked.
        await nodes.soon(lambda: all_ready(one), True)
        with pytest.raises(LeaseLost):
            await lease.release()


async def test_a_node_without_its_data_counts_again_after_the_quarantine(nodes: Nodes) -> None:
    """When all that it can have forgotten is over, the node votes again."""
    async with nodes.client(quarantine=1.0) as client:
        await warm(client)
        nodes.servers[0].freeze()
        nodes.servers[1].freeze()
        nodes.redis(2).flushall()
        began = time.monotonic()
        with fail_after(5):
            lease = await client.lock("a", ttl=1.0, backoff=EAGER).acquire()
        assert time.monotonic() - began > 0.9
        await lease.release()
        for server in nodes.servers[:2]:
            server.thaw()


async def test_a_brand_new_deployment_works_at_once(nodes: Nodes) -> None:
    """All nodes without data can have forgotten nothing; several first clients agree."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(nodes.client()) for _ in range(6)]
        with fail_after(10):
            leases = await asyncio.gather(
                *(client.lock(f"n{n}").acquire() for n, client in enumerate(clients))
            )
        for lease in leases:
            await lease.release()
    assert [nodes.redis(node).get("aiodistlock:marker") for node in range(5)] == [b"0"] * 5


async def test_a_new_deployment_that_is_not_complete_waits(nodes: Nodes) -> None:
    """Where a node is missing nobody can tell that all are new; the error says what is on."""
    nodes.servers[4].kill()
    async with nodes.client(unavailable_after=0.8) as client:
        with pytest.raises(StoreUnavailable, match="without its data") as caught:
            await client.lock("a", backoff=EAGER).acquire(timeout=10.0)
        assert len(caught.value.causes) >= 3


async def test_a_renewal_heals_a_node_that_lost_the_key(nodes: Nodes) -> None:
    """What a majority holds is put back where it is missing."""
    async with nodes.client() as client:
        await warm(client)
        async with client.lock("a", ttl=1.5) as lease:
            await nodes.soon(lambda: nodes.holders("a"), [lease.token] * 5)
            nodes.redis(1).delete("lock:a")
            nodes.redis(4).delete("lock:a")
            await nodes.soon(lambda: nodes.holders("a"), [lease.token] * 5)
    assert nodes.keys() == []


async def test_a_lease_that_a_majority_has_not_is_lost(nodes: Nodes) -> None:
    """Refused by a majority, the lease ends at the next renewal, and leaves nothing."""
    async with nodes.client() as client:
        await warm(client)
        with pytest.raises(LeaseLost, match="gone"):  # noqa: PT012 - the block raises
            async with client.lock("a", ttl=1.5) as lease:
                # A majority is enough to hold it: the other votes may still be on their way.
                await nodes.soon(lambda: nodes.holders("a"), [lease.token] * 5)
                for node in range(3):
                    nodes.redis(node).delete("lock:a")
                await asyncio.sleep(20)
        await nodes.soon(nodes.keys, [])


async def test_one_node_that_renews_first_decides_nothing(nodes: Nodes) -> None:
    """Though a node that has the lease answers first, it is lost by the majority that has not."""
    told = asyncio.Event()
    async with AsyncExitStack() as stack:
        proxies = [
            await stack.enter_async_context(ChaosProxy.before(nodes.urls[n])) for n in (0, 1, 2, 3)
        ]
        nodes.urls[:4] = [proxy.url for proxy in proxies]
        client = await stack.enter_async_context(nodes.client())
        await warm(client)
        # Long, for a round is bounded by a part of it.
        lease = await client.lock("a", ttl=60.0).acquire()
        await nodes.soon(lambda: nodes.holders("a"), [lease.token] * 5)
        for node, proxy in enumerate(proxies):
            proxy.script_names = SCRIPTS
            if node < 3:
                nodes.redis(node).delete("lock:a")
                proxy.rules.append(on("reply", "RENEW_VOTE", Hold(told), number=1))
        extending = asyncio.create_task(lease.extend(60.0))
        for proxy in proxies:
            await proxy.seen("reply", "RENEW_VOTE")
        told.set()
        with pytest.raises(LeaseLost, match="gone"):
            await extending


async def test_a_fenced_store_takes_no_stale_write_after_all_was_lost(
    nodes: Nodes, tmp_path: Path
) -> None:
    """P2: with every node flushed two holders are possible; the fence protects."""
    database = sqlite3.connect(tmp_path / "ledger.db")
    database.execute("CREATE TABLE wallet (balance TEXT, fence INTEGER)")
    database.execute("INSERT INTO wallet VALUES ('', 0)")

    def write(balance: str, fence: int) -> bool:
        changed = database.execute(
            "UPDATE wallet SET balance = ?, fence = ? WHERE fence <= ?", (balance, fence, fence)
        )
        return changed.rowcount == 1

    async with nodes.client() as one, nodes.client() as other:
        await warm(one)
        stale = await one.lock("a", ttl=10.0).acquire()
        assert write("one", stale.fencing_token)
        for node in range(5):
            nodes.redis(node).flushall()
        newer = await other.lock("a", ttl=10.0, backoff=EAGER).acquire(timeout=5.0)
        assert stale.is_held
        assert newer.is_held
        assert write("other", newer.fencing_token)
        assert not write("stale", stale.fencing_token)
        await newer.release()
    assert database.execute("SELECT balance FROM wallet").fetchone() == ("other",)
    database.close()


@pytest.mark.parametrize("seconds", [-100, 100])
async def test_one_shifted_clock_decides_nothing(
    nodes: Nodes, tmp_path: Path, seconds: int
) -> None:
    """A node whose clock jumps loses its keys early or late; the majority holds."""
    shim = build_shim(tmp_path)
    with shifted_server(nodes.servers[0].binary, shim, tmp_path) as (lock, clock):
        port = lock.client.connection_pool.connection_kwargs["port"]
        nodes.urls[0] = f"redis://127.0.0.1:{port}"
        async with nodes.client() as one, nodes.client() as other:
            await warm(one)
            fences = []
            async with one.lock("a", ttl=5.0) as lease:
                fences.append(lease.fencing_token)
                clock.set_to(seconds)
                with pytest.raises(AcquireTimeout):
                    await other.lock("a", backoff=EAGER).acquire(timeout=0.3)
                lease.check()
            for client in (other, one, other):
                async with client.lock("a", ttl=5.0, backoff=EAGER) as lease:
                    fences.append(lease.fencing_token)
            assert all(one_ < next_ for one_, next_ in pairwise(fences))


async def test_tokens_rise_though_the_clients_clocks_differ(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients two seconds apart, hand-offs, a node missing now and then: still they rise."""
    fences: list[int] = []
    async with AsyncExitStack() as stack:
        clients = []
        for skew in (0, -2_000_000, 1_500_000):
            monkeypatch.setattr(quorum, "wall_us", lambda skew=skew: wall_us() + skew)
            client = await stack.enter_async_context(nodes.client())
            await warm(client)
            clients.append(client)

        async def hold(client: LockClient) -> None:
            async with client.lock("a", backoff=EAGER) as lease:
                fences.append(lease.fencing_token)

        for round_ in range(12):
            frozen = nodes.servers[round_ % 5]
            frozen.freeze()
            async with asyncio.TaskGroup() as group:
                for client in clients:
                    for _ in range(3):
                        group.create_task(hold(client))
            frozen.thaw()
    assert len(fences) == 108
    assert all(one < other for one, other in pairwise(fences))


async def test_the_highest_token_stands_at_a_majority_before_the_lease_begins(
    nodes: Nodes,
) -> None:
    """What one node alone knows would be forgotten by the next majority without it."""
    async with nodes.client() as client:
        await warm(client)
        ahead = wall_us() + 3_000_000
        counter = fence_key(LockKeys("a", "lock:").slot)
        nodes.redis(0).set(counter, ahead)
        for server in nodes.servers[3:]:
            server.freeze()
        async with client.lock("a", ttl=2.0) as lease:
            assert lease.fencing_token > ahead
            counters = [int(nodes.redis(node).get(counter).split()[0]) for node in range(3)]
            assert min(counters) >= lease.fencing_token
        for server in nodes.servers[3:]:
            server.thaw()


async def test_a_late_answer_heals_nothing_that_was_released(nodes: Nodes) -> None:
    """A node that says late that it lost the key does not get it back after the release."""
    late = asyncio.Event()
    async with ChaosProxy.before(nodes.urls[4]) as proxy:
        proxy.script_names = SCRIPTS
        async with LockClient.from_url([*nodes.urls[:4], proxy.url]) as client:
            await warm(client)
            proxy.rules.append(on("reply", "RENEW_VOTE", Hold(late)))
            lease = await client.lock("a").acquire()
            await nodes.soon(lambda: nodes.holders("a", [4]), [lease.token])
            nodes.redis(4).delete("lock:a")
            await lease.extend(10.0)
            await proxy.seen("reply", "RENEW_VOTE")
            await lease.release()
            late.set()
            # The answers to all that was asked after it, and then none is missing.
            await proxy.seen("reply", "UNVOTE", 2)
            async with client.lock("b"):
                pass
            await nodes.soon(lambda: nodes.keys([4]), [])
            assert nodes.holders("a") == [None] * 5


@pytest.mark.parametrize("direction", ["request", "reply"])
async def test_a_partition_in_the_middle_of_a_round_leaves_nothing(
    nodes: Nodes, direction: str
) -> None:
    """Three nodes vanish as they vote: the round fails in time, and is undone when they return."""
    async with AsyncExitStack() as stack:
        proxies = []
        for node in range(3):
            proxy = ChaosProxy.before(nodes.urls[node])
            proxies.append(await stack.enter_async_context(proxy))
            proxy.script_names = SCRIPTS
        urls = [*(proxy.url for proxy in proxies), *nodes.urls[3:]]
        client = await stack.enter_async_context(LockClient.from_url(urls))
        await warm(client)
        for proxy in proxies:
            proxy.rules.append(on(direction, "VOTE", Do.BLACK_HOLE))  # type: ignore[arg-type]  # a Kind
        began = time.monotonic()
        with pytest.raises((AcquireTimeout, StoreUnavailable)):
            await client.lock("a", ttl=20.0, backoff=EAGER).acquire(timeout=1.5)
        assert time.monotonic() - began < 5.0
        await nodes.soon(lambda: nodes.holders("a", [3, 4]), [None, None])
        for proxy in proxies:
            proxy.rules.clear()
        # Found silent, connected anew, and told what is to be taken back.
        await nodes.soon(nodes.keys, [], within=10.0)
        async with client.lock("a", backoff=EAGER):
            pass
