"""A quorum at its edges: few nodes, split votes, answers that are lost, ends in the middle."""

import asyncio
import itertools
import time
from contextlib import AsyncExitStack

import pytest

from aiodistlock import AcquireTimeout, LockClient, LockError, StoreUnavailable
from aiodistlock.core.validity import deadline
from aiodistlock.deployments.quorum.node_pipe import MOST_KEPT, RETRY_AFTER
from aiodistlock.protocol import scripts
from aiodistlock.testing.discovery import LOOPBACK
from tests.deployments.quorum import EAGER, NEVER, Nodes, store_of, warm
from tests.proxy import ChaosProxy, Delay, Do, on

UNVOTE = {scripts.UNVOTE.sha.decode(): "UNVOTE"}


async def test_a_node_that_hangs_up_late_is_not_waited_for(nodes: Nodes) -> None:
    """The first round of all ends as soon as those that are missing are known to be."""

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # After the others have voted.
        await asyncio.sleep(0.2)
        writer.close()

    async with nodes.client() as client:
        await warm(client)
    async with AsyncExitStack() as stack:
        for node in (0, 1):
            server = await stack.enter_async_context(
                await asyncio.start_server(hang_up, LOOPBACK, 0)
            )
            host, port = server.sockets[0].getsockname()
            nodes.urls[node] = f"redis://{host}:{port}"
        client = await stack.enter_async_context(nodes.client(quarantine=200.0))
        began = time.monotonic()
        lease = await client.lock("a", ttl=100.0).acquire(timeout=20.0)
        # A round waits for 5 s, 5 % of the ttl.
        assert time.monotonic() - began < 3.0
        await lease.release()


async def test_a_deadline_counts_from_the_beginning_of_the_round(nodes: Nodes) -> None:
    """A majority may take long: the first vote is over by so much sooner."""
    async with ChaosProxy.before(nodes.urls[1]) as slow:
        slow.script_names = {scripts.VOTE.sha.decode(): "VOTE"}
        nodes.urls[1] = slow.url
        async with nodes.client() as client:
            await warm(client)
            for node in (3, 4):
                nodes.servers[node].kill()
            slow.rules.append(on("reply", "VOTE", Delay(1.0)))
            lease = await client.lock("a", ttl=60.0).acquire(timeout=20.0)
            assert lease.validity < deadline(-1.0, 60.0)
            await lease.release()


async def test_nothing_piles_up_while_a_connection_is_being_opened(nodes: Nodes) -> None:
    """A node that accepts and says nothing gets no more calls, however long the ttl."""
    silent = asyncio.Event()

    async def say_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await silent.wait()
        writer.close()

    async with nodes.client() as client:
        await warm(client)
    async with await asyncio.start_server(say_nothing, LOOPBACK, 0) as server:
        host, port = server.sockets[0].getsockname()
        nodes.urls[0] = f"redis://{host}:{port}"
        async with nodes.client() as client:
            store = store_of(client)
            # Known by name before, so that the first round need not wait for this one.
            store.quorum.introduced = True
            until = time.monotonic() + 2.0

            async def cycle(number: int) -> None:
                lock = client.lock(f"n{number}", ttl=60.0)
                while time.monotonic() < until:
                    async with lock:
                        pass

            async with asyncio.TaskGroup() as group:
                for number in range(16):
                    group.create_task(cycle(number))
            backlog = store.quorum.nodes[0]._backlog  # type: ignore[attr-defined]  # a pipe
            assert len(backlog.calls()) <= 2 * MOST_KEPT
            silent.set()


async def test_a_split_that_lasts_is_not_asked_about_all_the_time(nodes: Nodes) -> None:
    """A dead client has two of four nodes, and nobody can have three: the pauses grow."""
    async with AsyncExitStack() as stack:
        proxies = [
            await stack.enter_async_context(ChaosProxy.before(url)) for url in nodes.urls[2:4]
        ]
        nodes.urls[2:] = [proxy.url for proxy in proxies]
        client = await stack.enter_async_context(nodes.client())
        await warm(client)
        for node, proxy in enumerate(proxies, 2):
            proxy.script_names = {scripts.VOTE.sha.decode(): "VOTE"}
            # The free ones answer first, so that each round is split.
            proxy.rules.append(on("reply", "VOTE", Delay(0.01)))
            nodes.redis(node).set("lock:a", "dead", px=30_000)
        with pytest.raises(AcquireTimeout):
            await client.lock("a").acquire(timeout=2.0)
        assert 2 < proxies[0].requests["VOTE"] < 25


async def test_an_inspection_has_time_to_connect(nodes: Nodes) -> None:
    """As the first call of a client it waits for handshakes, though there is no ttl to go by."""
    async with nodes.client() as client, client.lock("a") as lease, AsyncExitStack() as stack:
        for node in range(3):
            proxy = await stack.enter_async_context(ChaosProxy.before(nodes.urls[node]))
            # Some 0.1 s for the handshake: twice what the shortest ttl would leave.
            proxy.rules.append(lambda frame: Delay(0.02) if frame.kind == "reply" else None)
            nodes.urls[node] = proxy.url
        async with nodes.client() as fresh:
            assert (await fresh.lock("a").inspect()).holder == lease.token


@pytest.mark.parametrize("count", [1, 2, 4])
async def test_any_number_of_nodes_makes_a_quorum(nodes: Nodes, count: int) -> None:
    """One alone, and even numbers: one holder, tokens rise, and a majority is enough."""
    nodes.urls[:] = nodes.urls[:count]
    async with nodes.client() as one, nodes.client() as other:
        async with one.lock("a", ttl=1.5) as lease:
            assert await other.lock("a").try_acquire() is None
            waiting = asyncio.create_task(other.lock("a", backoff=EAGER).acquire(timeout=10))
            await asyncio.sleep(1.6)  # real time: longer than the ttl
            lease.check()
        newer = await waiting
        assert newer.fencing_token > lease.fencing_token
        await newer.release()
        if count == 4:
            nodes.servers[0].kill()
            async with one.lock("a", backoff=EAGER):
                pass
        chosen = range(count) if count < 4 else range(1, 4)
        await nodes.soon(lambda: nodes.keys(chosen), [])


async def test_a_release_whose_answers_are_lost_is_a_release(nodes: Nodes) -> None:
    """Sent again, it finds the keys gone: that is no loss."""
    async with AsyncExitStack() as stack:
        proxies = [await stack.enter_async_context(ChaosProxy.before(url)) for url in nodes.urls]
        urls = [proxy.url for proxy in proxies]
        client = await stack.enter_async_context(LockClient.from_url(urls))
        await warm(client)
        lease = await client.lock("a").acquire()
        for proxy in proxies:
            proxy.script_names = UNVOTE
            proxy.rules.append(on("reply", "UNVOTE", Do.CUT_BEFORE, number=1))
        await lease.release()
        assert nodes.holders("a") == [None] * 5


@pytest.mark.parametrize("steps", range(8))
async def test_a_close_in_the_middle_of_a_round_leaves_nothing(nodes: Nodes, steps: int) -> None:
    """Whatever is under way is taken back behind its request; who waits is told."""
    async with nodes.client() as client:
        await warm(client)
        taking = asyncio.create_task(client.lock("a").acquire())
        for _ in range(steps):
            await asyncio.sleep(0)
        if steps == 7:
            await taking
    lease = (await asyncio.gather(taking, return_exceptions=True))[0]
    if isinstance(lease, BaseException):
        assert isinstance(lease, LockError)
    else:
        assert not lease.is_held
    await nodes.soon(nodes.keys, [])


async def test_a_split_with_a_dead_node_is_asked_about_again(nodes: Nodes) -> None:
    """Nobody has two of three votes: that is no holder whose ttl is to be waited for."""
    async with ChaosProxy.before(nodes.urls[1]) as proxy:
        nodes.urls[:] = [nodes.urls[0], proxy.url, nodes.urls[2]]
        async with nodes.client() as client:
            await warm(client)
            proxy.script_names = {scripts.VOTE.sha.decode(): "VOTE"}
            # The free one answers first, so that each round is split.
            proxy.rules.append(on("reply", "VOTE", Delay(0.01)))
            nodes.redis(1).set("lock:a", "another", px=30_000)
            nodes.servers[2].kill()
            acquiring = asyncio.create_task(client.lock("a", backoff=NEVER).acquire(timeout=6.0))
            await nodes.soon(lambda: nodes.waiters("a", 1), 1)
            nodes.redis(1).delete("lock:a")
            await (await acquiring).release()


async def test_a_wrong_password_on_a_majority_is_told_at_once_each_time(nodes: Nodes) -> None:
    """Not only to the first acquire."""
    async with nodes.client() as client:
        await warm(client)
    _set_password(nodes, "another")
    nodes.urls[:3] = [url.replace("://", "://:secret@") for url in nodes.urls[:3]]
    async with nodes.client(unavailable_after=20.0) as client:
        lock = client.lock("a", backoff=EAGER)
        for _ in range(3):
            began = time.monotonic()
            with pytest.raises(StoreUnavailable, match=r"WRONGPASS|invalid username"):
                await lock.acquire(timeout=25.0)
            assert time.monotonic() - began < 10.0


async def test_a_password_that_was_wrong_once_is_tried_again(nodes: Nodes) -> None:
    """Where nobody has connected since, the last failure is old news."""
    _set_password(nodes, "secret")
    nodes.urls[:3] = [url.replace("://", "://:secret@") for url in nodes.urls[:3]]
    async with nodes.client(unavailable_after=5.0) as client:
        await warm(client)
        _set_password(nodes, "another")
        for node, kind in itertools.product(range(3), ("normal", "pubsub")):
            nodes.redis(node).client_kill_filter(_type=kind, skipme=True)
        with pytest.raises(StoreUnavailable, match=r"WRONGPASS|invalid username"):
            await client.lock("a").acquire(timeout=15.0)
        # A node is a pipe, behind the protocol; nothing public tells that it has given up.
        pipes = store_of(client).quorum.nodes[:3]
        keepers = [pipe._keeper for pipe in pipes]  # type: ignore[attr-defined]
        await nodes.soon(lambda: [each.ended for each in keepers], [True] * 3, within=20.0)
        _set_password(nodes, "secret")
        await asyncio.sleep(RETRY_AFTER)
        async with client.lock("a"):
            pass


def _set_password(nodes: Nodes, password: str) -> None:
    """Have a majority ask for a password; who is connected stays so."""
    for node in range(3):
        nodes.redis(node).config_set("requirepass", password)


async def test_who_releases_lets_those_go_first_who_were_told(nodes: Nodes) -> None:
    """A task that wants the lock again at once does not starve another process."""
    nodes.urls[:] = nodes.urls[:1]
    done = False
    cycles = 0

    async def hog(client: LockClient) -> None:
        nonlocal cycles
        while not done:
            async with client.lock("a"):
                cycles += 1
                await asyncio.sleep(0.001)

    async with nodes.client() as one, nodes.client() as other:
        for client in (one, other):
            await warm(client)
        hogging = asyncio.create_task(hog(one))
        for _ in range(10):
            lease = await other.lock("a", backoff=NEVER).acquire(timeout=20.0)
            await lease.release()
        done = True
        await hogging
    # Each of the ten waits for one release, two while hints cannot be heard yet.
    assert cycles < 40


async def test_a_holder_is_seen_though_one_node_is_silent_and_one_lost_its_vote(
    nodes: Nodes,
) -> None:
    """What a majority may have is not free."""
    nodes.urls[:] = nodes.urls[:3]
    async with nodes.client() as client, client.lock("a", ttl=20.0) as lease:
        await nodes.soon(lambda: nodes.holders("a", [0, 1, 2]), [lease.token] * 3)
        nodes.redis(1).delete("lock:a")
        nodes.servers[2].freeze()
        async with nodes.client() as other:
            seen = await other.lock("a").inspect()
        nodes.servers[2].thaw()
        assert seen.holder == lease.token
