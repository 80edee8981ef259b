"""Many clients in one process, each with a connection of its own, that wait for one lock.

    python -m tests.faults.herd_main URL NAMESPACE CLIENTS TTL [hold]

The first one may hold the lock until all are killed.  Tells on stdout, with
``time.monotonic()``: that it holds, and who has entered.
"""

import asyncio
import os
import resource
import sys
from contextlib import AsyncExitStack

from aiodistlock import LockClient
from tests.faults.process_main import say


async def main(url: str, namespace: str, count: str, ttl: str, *hold: str) -> None:
    """Have all clients wait, and leave in turn."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    async def take_turn(client: LockClient) -> None:
        async with client.lock("n", namespace=namespace, ttl=float(ttl)):
            say("entered")

    async with AsyncExitStack() as stack:
        clients = []
        for number in range(int(count)):
            clients.append(await stack.enter_async_context(LockClient.from_url(url)))
            # Connects: all at once would be too many for a busy machine.
            async with clients[-1].lock(str(number), namespace=f"{namespace}{os.getpid()}:"):
                pass
        if hold:
            lease = await clients.pop().lock("n", namespace=namespace, ttl=float(ttl)).acquire()
            say("holds", lease.fencing_token)
        await asyncio.gather(*map(take_turn, clients))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
