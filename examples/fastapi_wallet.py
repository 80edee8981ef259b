"""A wallet service in FastAPI that reconciles each wallet in one request at a time.

``python examples/fastapi_wallet.py [URL]`` calls the service without a server. It prints::

    wallet 42, called twice at once: [200, 423], the second one with Retry-After ...
    wallets 42 and 43, called at once: [200, 200]
    wallet 42, written as 042: [200, 423]

Needs ``pip install 'aiodistlock[fastapi]' httpx``.
"""

from __future__ import annotations

import asyncio
from typing import Annotated
from uuid import uuid4

import httpx
from fastapi import FastAPI

from _server import redis_url
from aiodistlock import Lease
from aiodistlock.integrations.fastapi import LockDependency, setup_locks

Wallet = Annotated[
    Lease, LockDependency("{header[x-tenant]}:wallet:{wallet_id}", ttl=5.0, timeout=0)
]


async def reconcile(wallet_id: int, lease: Wallet) -> dict[str, int]:
    """Read, compute, write; pass the fencing token on to what is written."""
    await asyncio.sleep(0.2)
    return {"wallet": wallet_id, "fence": lease.fencing_token}


def make_app(redis: str) -> FastAPI:
    """Make the application."""
    app = FastAPI()
    setup_locks(app, redis, unavailable_after=2.0)
    app.post("/wallets/{wallet_id}/reconcile")(reconcile)
    return app


async def main(url: str) -> None:
    """Call the service."""
    app = make_app(url)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app),
            base_url="http://wallets",
            headers={"x-tenant": f"tenant-{uuid4().hex[:6]}"},
        ) as client,
    ):

        async def call(*wallets: str) -> list[httpx.Response]:
            urls = (f"/wallets/{wallet}/reconcile" for wallet in wallets)
            answers = await asyncio.gather(*(client.post(each) for each in urls))
            return sorted(answers, key=lambda answer: answer.status_code)

        first, second = await call("42", "42")
        print(
            f"wallet 42, called twice at once: {[first.status_code, second.status_code]}, "
            f"the second one with Retry-After {second.headers['retry-after']}"
        )
        print("wallets 42 and 43, called at once:", [a.status_code for a in await call("42", "43")])
        print("wallet 42, written as 042:", [a.status_code for a in await call("42", "042")])


if __name__ == "__main__":
    with redis_url() as url:
        asyncio.run(main(url))
