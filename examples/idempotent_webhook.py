"""A webhook that handles each event once, however often and how fast it is delivered.

``python examples/idempotent_webhook.py [URL]`` delivers one event five times at once, and
again when all is over, and one event whose first handling fails. It prints::

    five deliveries at once: [200, 200, 200, 200, 200], 1 handled, 4 told that it was
    a late delivery: 200, told that it was
    a delivery that fails: 500; again: 200, handled
    charged: 2 times for 2 events

Each event is a job of its own that is done once: deliveries that come while it is handled wait,
and are told; what fails is handled by the next one. A process that dies in the middle repeats the
work: give the event's id, or the fencing token, to what does the work if that must not be.

Needs ``pip install 'aiodistlock[fastapi]' httpx``.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Annotated
from uuid import uuid4

import httpx
from fastapi import Depends, FastAPI, HTTPException
from pydantic import BaseModel
from redis.asyncio import Redis

from _server import redis_url
from aiodistlock import LockClient, Ran, Run
from aiodistlock.integrations.fastapi import get_locks, setup_locks

REMEMBERED = timedelta(days=1)
"""How long an event is remembered: longer than its sender tries."""

ONLY = 0
"""An event is handled once, not once a window: so there is only one."""


class Event(BaseModel):
    """What the sender tells; it sends the same id again if it gets no 2xx."""

    id: str
    amount: int


class Payments:
    """The work, which must be done once for each event."""

    def __init__(self, fail_first: str) -> None:
        self.charged: list[str] = []
        self.fail_first = fail_first

    async def charge(self, event: Event, run: Run) -> None:
        """Charge, after a while."""
        await asyncio.sleep(0.1)
        if self.fail_first == event.id:
            self.fail_first = ""
            raise HTTPException(500, "the bank does not answer")
        run.check()
        self.charged.append(event.id)


def make_app(url: str, payments: Payments) -> FastAPI:
    """Make the application."""
    app = FastAPI()
    setup_locks(app, url)

    @app.post("/webhook")
    async def webhook(event: Event, locks: Annotated[LockClient, Depends(get_locks)]) -> str:
        once = locks.once(f"webhook:{event.id}", timeout=5.0, remember=REMEMBERED)
        outcome = await once.run(lambda run: payments.charge(event, run), window=ONLY)
        if isinstance(outcome, Ran):
            return "handled"
        if outcome.reason == "held":
            raise HTTPException(503, "it is being handled; deliver it again")
        return "was handled"

    return app


async def main(url: str) -> None:
    """Deliver events."""
    event, failing = uuid4().hex, uuid4().hex
    payments = Payments(fail_first=failing)
    app = make_app(url, payments)
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
    async with Redis.from_url(url) as redis:
        # The marks would go by themselves, after a day.
        for each in (event, failing):
            await redis.delete(f"aiodistlock:done:{{lock:webhook:{each}}}")
    print(f"charged: {len(payments.charged)} times for {len(set(payments.charged))} events")


if __name__ == "__main__":
    with redis_url() as url:
        asyncio.run(main(url))
