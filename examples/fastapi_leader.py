"""A background task of a FastAPI service that runs in one of its processes only: the leader.

``python examples/fastapi_leader.py [URL]`` runs two replicas of the service, and shuts down
the one that leads. It prints::

    replica 1 leads under fencing token ...
    replica 1 leads, says replica 1
    replica 1 is shut down
    replica 2 leads under fencing token ...
    replica 2 leads, says replica 2
    never two leaders at once: True

A leader that crashes is succeeded when its ttl runs out, one that is shut down at once. A paused
process may go on to write for a moment: so hand the fencing token to whatever the task writes to.

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
from aiodistlock import Term
from aiodistlock.integrations.fastapi import leading, setup_locks

leaders: list[str] = []
"""Who leads now; a real service has no such list, each replica knows of itself only."""
most_at_once = 0


def make_app(replica: str, redis: str, name: str) -> FastAPI:
    """Make one replica of the service."""

    async def housekeeping(term: Term) -> None:
        """Do what only the leader does, for as long as it is; cancelled when it is no more."""
        global most_at_once  # noqa: PLW0603 - the example counts over both replicas
        print(f"{replica} leads under fencing token {term.fencing_token}")
        leaders.append(replica)
        most_at_once = max(most_at_once, len(leaders))
        try:
            while True:
                await asyncio.sleep(0.05)  # ... and then a piece of work
        finally:
            leaders.remove(replica)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # The locks open before this and close behind it.
        election = app.state.locks.election(name, value=replica, ttl=1.0)
        async with leading(election, housekeeping):
            yield

    app = FastAPI(lifespan=lifespan)
    setup_locks(app, redis)

    @app.get("/leader")
    async def leader() -> str:
        found = await app.state.locks.election(name).leader()
        return "nobody" if found is None else str(found.value)

    return app


async def leader_told_by(app: FastAPI) -> str:
    """Ask a replica who leads."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://replica") as client:
        answer: str = (await client.get("/leader")).json()
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
        print(f"{await leader_told_by(first)} leads, says replica 1")
        print("replica 1 is shut down")
        await replica_1.aclose()
        await leads("replica 2")
        print(f"{await leader_told_by(second)} leads, says replica 2")
    print(f"never two leaders at once: {most_at_once == 1}")


if __name__ == "__main__":
    with redis_url() as url:
        asyncio.run(main(url))
