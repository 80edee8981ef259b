"""A wallet service in aiohttp: a handler with a lock, and a middleware for other routes.

``python examples/aiohttp_wallet.py [URL]`` starts the service on a free port and calls it.
It prints::

    reconcile wallet 42 twice at once: [200, 423], the second one with Retry-After ...
    close two accounts of a tenant at once: [200, 200], one after the other
    read an account while it is closed: 200

Needs ``pip install 'aiodistlock[aiohttp]'``.
"""

from __future__ import annotations

import asyncio
from uuid import uuid4

from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from _server import redis_url
from aiodistlock.integrations.aiohttp import LEASE, lock_middleware, locked_handler, setup_locks

busy: list[str] = []
"""The tenants whose accounts are being closed; the lock keeps each from being here twice."""


@locked_handler("{header[x-run]}:wallet:{wallet_id}", ttl=5.0, timeout=0)
async def reconcile(request: web.Request) -> web.Response:
    """Read, compute, write; pass the fencing token on to what is written."""
    await asyncio.sleep(0.2)
    return web.json_response({"fence": request[LEASE].fencing_token})


class Account(web.View):
    """An account of a tenant; what changes it is locked by the middleware."""

    async def get(self) -> web.Response:
        """Read it, without a lock."""
        return web.json_response({"account": self.request.match_info["account"]})

    async def delete(self) -> web.Response:
        """Close it; one at a time for each tenant."""
        tenant = self.request.match_info["tenant"]
        if tenant in busy:
            raise web.HTTPInternalServerError
        busy.append(tenant)
        await asyncio.sleep(0.1)
        busy.remove(tenant)
        return web.json_response({"fence": self.request[LEASE].fencing_token})


def make_app(redis: str) -> web.Application:
    """Make the application."""
    locking = lock_middleware("{header[x-run]}:tenant:{tenant}", ttl=5.0, timeout=2.0)
    app = web.Application(middlewares=[locking])
    setup_locks(app, redis, unavailable_after=2.0)
    app.router.add_post("/wallets/{wallet_id}/reconcile", reconcile)
    app.router.add_view("/tenants/{tenant}/accounts/{account}", Account)
    return app


async def main(url: str) -> None:
    """Call the service."""
    async with TestServer(make_app(url)) as server:
        headers = {"x-run": uuid4().hex[:6]}
        async with ClientSession(server.make_url("/"), headers=headers) as client:
            twice = [client.post("/wallets/42/reconcile") for _ in range(2)]
            answers = sorted(await asyncio.gather(*twice), key=lambda answer: answer.status)
            print(
                f"reconcile wallet 42 twice at once: {[answer.status for answer in answers]}, "
                f"the second one with Retry-After {answers[1].headers['retry-after']}"
            )
            deletes = [client.delete(f"/tenants/acme/accounts/{n}") for n in (1, 2)]
            *closed, read = await asyncio.gather(*deletes, client.get("/tenants/acme/accounts/1"))
            statuses = [answer.status for answer in closed]
            print(f"close two accounts of a tenant at once: {statuses}, one after the other")
            print(f"read an account while it is closed: {read.status}")


if __name__ == "__main__":
    with redis_url() as url:
        asyncio.run(main(url))
