"""What ``LockClient.health`` says of a connection that is cut, and of one that is silent."""

import asyncio

import redis.asyncio as redis_asyncio

from tests.faults.world import client
from tests.proxy import ChaosProxy


async def test_a_cut_connection_is_told(
    proxy: ChaosProxy, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """From when it is gone until there is another one; what was heard before still counts."""
    async with client(proxy.url) as locks, locks.lock("n", namespace=namespace):
        assert locks.health().connected
        await proxy.refuse()
        await proxy.cut()
        while locks.health().connected:
            await asyncio.sleep(0.001)
        assert locks.health().silent_for is not None
        await proxy.accept()
        while not locks.health().connected:
            await asyncio.sleep(0.001)


async def test_a_silent_server_is_told(proxy: ChaosProxy, namespace: str) -> None:
    """By how long ago it was heard last."""
    async with client(proxy.url) as locks:
        lease = await locks.lock("n", namespace=namespace).acquire()
        proxy.black_hole()
        while (locks.health().silent_for or 0.0) < 0.3:
            await asyncio.sleep(0.01)
        assert lease.is_held
        await proxy.cut()
        proxy.rules = []
        await proxy.accept()
        await lease.release()
