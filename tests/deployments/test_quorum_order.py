"""On each node of a quorum all that one client asks for runs in the order of asking."""

import asyncio
from contextlib import AsyncExitStack

from aiodistlock import LockClient
from aiodistlock.core.keys import LockKeys
from aiodistlock.protocol import scripts
from tests.deployments.quorum import EAGER, Nodes, warm
from tests.proxy import ChaosProxy, Delay, Hold, on

SCRIPTS = {scripts.VOTE.sha.decode(): "VOTE", scripts.UNVOTE.sha.decode(): "UNVOTE"}


async def test_a_node_that_forgot_a_script_keeps_the_order(nodes: Nodes) -> None:
    """What undoes a lost round, sent again as EVAL, does not undo the round after it."""
    async with nodes.client() as client, client.lock("warm"):
        pass
    for node in (0, 1, 2):
        nodes.redis(node).set("lock:a", "somebody", px=30_000)
    async with AsyncExitStack() as stack:
        proxies = []
        for node in (3, 4):
            nodes.redis(node).script_flush()
            nodes.redis(node).script_load(scripts.VOTE.source)
            proxy = ChaosProxy.before(nodes.urls[node])
            proxies.append(await stack.enter_async_context(proxy))
            proxy.script_names = SCRIPTS
            # Longer than the pause before the next round.
            proxy.rules.append(on("reply", "UNVOTE", Delay(0.2), number=1))
        urls = [*nodes.urls[:3], *(proxy.url for proxy in proxies)]
        client = await stack.enter_async_context(LockClient.from_url(urls))
        acquiring = asyncio.create_task(client.lock("a", backoff=EAGER).acquire(timeout=5.0))
        for proxy in proxies:
            await proxy.seen("request", "UNVOTE")
        nodes.redis(0).delete("lock:a")
        lease = await acquiring
        for proxy in proxies:
            # What was forgotten, and then ran.
            await proxy.seen("reply", "UNVOTE", 2)
        assert nodes.holders("a", [0, 3, 4]) == [lease.token] * 3
        await lease.release()


async def test_a_vote_sent_again_late_is_taken_back(nodes: Nodes) -> None:
    """A node that did not know the script votes behind the release of what it votes for."""
    async with nodes.client() as client, client.lock("warm"):
        pass
    nodes.redis(4).script_flush()
    nodes.redis(4).script_load(scripts.UNVOTE.source)
    told = asyncio.Event()
    async with ChaosProxy.before(nodes.urls[4]) as proxy:
        proxy.script_names = SCRIPTS
        async with LockClient.from_url([*nodes.urls[:4], proxy.url]) as client:
            # So that this node has told who it is: the first round of all would wait for it.
            await client.lock("a").inspect()
            proxy.rules.append(on("reply", "VOTE", Hold(told), number=1))
            async with client.lock("a"):
                await proxy.seen("reply", "VOTE")  # it does not know the script
            await proxy.seen("request", "UNVOTE")
            told.set()
            await proxy.seen("reply", "VOTE", 2)  # as EVAL: it votes
            async with client.lock("b"):
                pass
            await nodes.soon(lambda: nodes.keys([4]), [])


async def test_a_healing_vote_sent_again_late_is_taken_back(nodes: Nodes) -> None:
    """Not where the lease goes on: there it is what was wanted."""
    async with nodes.client() as client:
        node = nodes.redis(4)
        for released in (True, False):
            node.script_load(scripts.VOTE.source)  # only the healing vote meets a node without
            lease = await client.lock("a", ttl=20.0).acquire()
            await nodes.soon(lambda: nodes.holders("a"), [lease.token] * 5)
            node.delete("lock:a")
            node.script_flush()
            for script in (scripts.UNVOTE, scripts.RENEW):
                node.script_load(script.source)
            await lease.extend(20.0)  # this node lost the key, and is asked for its vote
            if not released:
                await nodes.soon(lambda: nodes.holders("a", [4]), [lease.token])
            await lease.release()
            await nodes.soon(lambda: nodes.keys(), [])


async def test_who_gets_its_hint_late_on_every_node_asks_rarely(nodes: Nodes) -> None:
    """And as the first few do, where it is among those on one node only."""
    async with nodes.client() as holder, nodes.client() as client:
        await warm(client)
        held = await holder.lock("a", ttl=30.0).acquire()
        queue = LockKeys("a", "lock:").queue
        before_us = {f"0 nobody:{number} secret token:{number}": number for number in range(3000)}
        for node in range(5):
            nodes.redis(node).zadd(queue, before_us)
        waiting = asyncio.create_task(client.lock("a", ttl=30.0).acquire())
        for node in range(5):
            await nodes.soon(lambda node=node: nodes.waiters("a", node), 3001)
        asked = votes(nodes)
        await asyncio.sleep(1.0)  # real time: it is the pauses that are meant
        assert votes(nodes) - asked <= 3  # one round may have been under way

        nodes.redis(2).zremrangebyrank(queue, 0, 2999)
        waiting.cancel()
        waiting = asyncio.create_task(client.lock("a", ttl=30.0).acquire())
        await nodes.soon(lambda: nodes.waiters("a", 2), 1)
        asked = votes(nodes)
        await asyncio.sleep(1.0)  # real time: likewise
        assert votes(nodes) - asked >= 2
        await held.release()
        await (await waiting).release()


def votes(nodes: Nodes) -> int:
    """Return how many scripts one of the nodes has run."""
    return int(nodes.redis(3).info("commandstats")["cmdstat_evalsha"]["calls"])
