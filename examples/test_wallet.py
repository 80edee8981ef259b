"""Tests of a service that locks: of its waits, of its losses, and of its web application.

``pytest examples/test_wallet.py`` runs them, without a Redis and without waiting. The fixtures
``distlock`` and ``distlock_clock`` come with aiodistlock; copy the rest.

Needs ``pip install 'aiodistlock[fastapi]' pytest pytest-asyncio httpx``.
"""

from __future__ import annotations

import asyncio
from typing import Annotated

import httpx
import pytest
from fastapi import FastAPI

from aiodistlock import AcquireTimeout, Lease, LeaseLost, LockClient
from aiodistlock.integrations.fastapi import LockDependency, get_locks, setup_locks
from aiodistlock.testing import ManualClock, lose_lease

pytestmark = pytest.mark.asyncio


# The code under test.


async def reconcile(locks: LockClient, journal: list[str]) -> None:
    """Work on wallet 42; nobody else does meanwhile."""
    async with locks.lock("wallet:42", ttl=10.0, timeout=30.0):
        journal.append("begun")
        try:
            await asyncio.sleep(0.01)  # reads and computes
        except asyncio.CancelledError:
            journal.append("undone")
            raise
        journal.append("written")


Wallet = Annotated[Lease, LockDependency("wallet:{wallet_id}", timeout=0)]
app = FastAPI()
setup_locks(app, "redis://redis.internal:6379")


@app.post("/wallets/{wallet_id}")
async def post(wallet_id: int, lease: Wallet) -> dict[str, int]:
    """Serve one request at a time for each wallet."""
    return {"wallet": wallet_id, "fence": lease.fencing_token}


# Its tests.


async def test_it_gives_up_after_30_s(distlock: LockClient, distlock_clock: ManualClock) -> None:
    """``share`` is another process beside the code under test."""
    async with (
        LockClient.in_memory(share=distlock) as another_process,
        another_process.lock("wallet:42"),
    ):
        journal: list[str] = []
        task = asyncio.create_task(reconcile(distlock, journal))
        await distlock_clock.advance(30)  # takes no time
        with pytest.raises(AcquireTimeout):
            await task
    assert journal == []


async def test_it_goes_on_where_another_process_died(
    distlock: LockClient, distlock_clock: ManualClock
) -> None:
    """A lease that is neither released nor renewed is that of a process that was killed."""
    async with LockClient.in_memory(share=distlock) as another_process:
        lease = await another_process.lock("wallet:42", ttl=10.0, auto_renew=False).acquire()
        journal: list[str] = []
        task = asyncio.create_task(reconcile(distlock, journal))
        await distlock_clock.advance(11)
        await task
        assert not lease.is_held
    assert journal == ["begun", "written"]


async def test_it_undoes_its_work_when_the_lease_is_lost(
    distlock: LockClient, distlock_clock: ManualClock
) -> None:
    """``lose_lease`` does what happens when Redis has lost the key."""
    journal: list[str] = []
    task = asyncio.create_task(reconcile(distlock, journal))
    await distlock_clock.advance(0)  # all tasks run on until they wait
    lose_lease(distlock.lock("wallet:42"))
    with pytest.raises(LeaseLost):
        await task
    assert journal == ["begun", "undone"]


async def test_a_wallet_that_is_locked_is_answered_with_423(distlock: LockClient) -> None:
    """The application gets the locks of the test, whatever it was set up with."""
    app.dependency_overrides[get_locks] = lambda: distlock
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        assert (await client.post("/wallets/42")).status_code == 200
        async with distlock.lock("wallet:42"):
            assert (await client.post("/wallets/42")).status_code == 423
