"""A webhook that handles each event once, however often and how fast it is delivered.

``python examples/idempotent_webhook.py [URL]`` delivers one event five times at once, and
again when all is over, and one event whose first handling fails. It prints::

    five deliveries at once: [200, 200, 200, 200, 200], 1 handled, 4 told that it was
    a late delivery: 200, told that it was
    a delivery that fails: 500; again: 200, handled
    charged: 2 times for 2 events

The lock has deliveries of one event come one after the other; the note of what was done has
the later ones do nothing. Either alone is not enough: without the lock two deliveries find no
note; without the note the second one does the work again when the lock is free. A process that
dies between the work and the note repeats the work: give the event's id, or the fencing
token, to what does the work if that must not be.

Needs ``pip install 'aiodistlock[fastapi]' httpx``.
"""

from __future__ import annotations

import asyncio
from typing import Annotated
from uuid import uuid4

import httpx
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel
from redis.asyncio import Redis

from _server import redis_url
from aiodistlock import Lease
from aiodistlock.integrations.fastapi import LockDependency, setup_locks

DONE_FOR = 86_400
"""How long an event is remembered, seconds: longer than its sender tries."""


class Event(BaseModel):
    """What the sender tells; it sends the same id again if it gets no 2xx."""

    id: str
    amount: int


def event_name(event: Event) -> str:
    """Name the lock of an event, from the body of the request."""
    return f"webhook:{event.id}"


Once = Annotated[Lease, LockDependency(event_name, ttl=10.0, timeout=5.0)]


class Payments:
    """The work, which must be done once for each event."""

    def __init__(self, fail_first: str) -> None:
        self.charged: list[str] = []
        self.fail_first = fail_first

    async def charge(self, event: Event) -> None:
        """Charge, after a while."""
        await asyncio.sleep(0.1)
        if self.fail_first == event.id:
            self.fail_first = ""
            raise HTTPException(500, "the bank does not answer")
        self.charged.append(event.id)


def make_app(url: str, redis: Redis, payments: Payments) -> FastAPI:
    """Make the application."""
    app = FastAPI()
    setup_locks(app, url)

    @app.post("/webhook")
    async def webhook(event: Event, lease: Once) -> str:
        note = f"webhook-done:{event.id}"
        if await redis.exists(note):
            return "was handled"
        await payments.charge(event)
        lease.check()
        await redis.set(note, lease.fencing_token, ex=DONE_FOR)
        return "handled"

    return app


async def main(url: str) -> None:
    """Deliver events."""
    event, failing = uuid4().hex, uuid4().hex
    payments = Payments(fail_first=failing)
    async with Redis.from_url(url) as redis:
        app = make_app(url, redis, payments)
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://service") as client,
        ):

            async def deliver(event: str) -> httpx.Response:
                return await client.post("/webhook", json={"id": event, "amount": 10})

            answers = await asyncio.gather(*(deliver(event) for _ in range(5)))
            told = [answer.json() for answer in answers]
            print(
                f"five deliveries at once: {[answer.status_code for answer in answers]}, "
                f"{told.count('handled')} handled, {told.count('was handled')} told that it was"
            )
            late = await deliver(event)
            print(f"a late delivery: {late.status_code}, told that it {late.json().split()[0]}")
            failed, again = await deliver(failing), await deliver(failing)
            print(
                f"a delivery that fails: {failed.status_code}; "
                f"again: {again.status_code}, {again.json()}"
            )
        await redis.delete(f"webhook-done:{event}", f"webhook-done:{failing}")
    print(f"charged: {len(payments.charged)} times for {len(set(payments.charged))} events")


if __name__ == "__main__":
    with redis_url() as url:
        asyncio.run(main(url))
