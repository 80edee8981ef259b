"""A background task of a FastAPI service that runs in one of its processes only: the leader.

``python examples/fastapi_leader.py [URL]`` runs two replicas of the service, and shuts down
the one that leads. It prints::

    replica 1 leads under fencing token ...
    replica 1: leader, replica 2: follower
    replica 1 is shut down
    replica 2 leads under fencing token ...
    replica 2: leader
    never two leaders at once: True

The lease is renewed while the leader works. A leader that crashes is succeeded when its ttl
runs out, one that is shut down at once. A paused process may go on to write for a moment: so
hand the fencing token to whatever the task writes to.

Needs ``pip install 'aiodistlock[fastapi]' httpx``.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import uuid4

import httpx
from fastapi import FastAPI

from _server import redis_url
from aiodistlock import AsyncLock, Lease, LeaseLost, StoreUnavailable
from aiodistlock.integrations.fastapi import setup_locks

leaders: list[str] = []
"""Who leads now; a real service has no such list, each replica knows of itself only."""
most_at_once = 0


async def housekeeping(replica: str, lease: Lease) -> None:
    """Do what only the leader does, for as long as it is; cancelled when it is no more."""
    global most_at_once  # noqa: PLW0603 - the example counts over both replicas
    print(f"{replica} leads under fencing token {lease.fencing_token}")
    leaders.append(replica)
    most_at_once = max(most_at_once, len(leaders))
    try:
        while True:
            await asyncio.sleep(0.05)  # ... and then a piece of work
    finally:
        leaders.remove(replica)


async def lead(replica: str, lock: AsyncLock) -> None:
    """Wait to lead, lead, and wait again if the lease is lost."""
    while True:
        try:
            async with lock as lease:
                await housekeeping(replica, lease)
        except (LeaseLost, StoreUnavailable) as error:
            print(f"{replica} leads no more: {error}")


def make_app(replica: str, redis: str, name: str) -> FastAPI:
    """Make one replica of the service."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # The locks open before this and close behind it.
        leading = asyncio.create_task(lead(replica, app.state.locks.lock(name, ttl=1.0)))
        try:
            yield
        finally:
            leading.cancel()
            await asyncio.gather(leading, return_exceptions=True)

    app = FastAPI(lifespan=lifespan)
    setup_locks(app, redis)

    @app.get("/role")
    async def role() -> str:
        return "leader" if replica in leaders else "follower"

    return app


async def role_of(app: FastAPI) -> str:
    """Ask a replica for its role."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://replica") as client:
        answer: str = (await client.get("/role")).json()
        return answer


async def leads(replica: str) -> None:
    """Wait until a replica leads."""
    async with asyncio.timeout(10):
        while leaders != [replica]:
            await asyncio.sleep(0.01)


async def main(url: str) -> None:
    """Run two replicas, as two processes would."""
    name = f"leader-{uuid4().hex[:6]}"
    first, second = (make_app(f"replica {n}", url, name) for n in (1, 2))
    async with AsyncExitStack() as replica_1, AsyncExitStack() as replica_2:
        await replica_1.enter_async_context(first.router.lifespan_context(first))
        await leads("replica 1")
        await replica_2.enter_async_context(second.router.lifespan_context(second))
        print(f"replica 1: {await role_of(first)}, replica 2: {await role_of(second)}")
        print("replica 1 is shut down")
        await replica_1.aclose()
        await leads("replica 2")
        print(f"replica 2: {await role_of(second)}")
    print(f"never two leaders at once: {most_at_once == 1}")


if __name__ == "__main__":
    with redis_url() as url:
        asyncio.run(main(url))
