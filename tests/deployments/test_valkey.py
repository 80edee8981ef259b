"""Clients of valkey-py behind Sentinels: what is no matter on one server is here."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from valkey.asyncio.sentinel import Sentinel

from aiodistlock import LockClient
from tests.deployments.sentinel import MASTER, SentinelDeployment
from tests.faults.world import PATIENT, eventually

pytestmark = pytest.mark.bounded(45)


@asynccontextmanager
async def _locks(sentinels: SentinelDeployment, protocol: int) -> AsyncIterator[LockClient]:
    manager: Any = Sentinel(sentinels.addresses, protocol=protocol)  # type: ignore[no-untyped-call]  # valkey-py's
    async with manager.master_for(MASTER) as valkey, LockClient(valkey) as locks:
        yield locks


@pytest.mark.parametrize("protocol", [2, 3])
async def test_leases_and_waiters_outlast_a_failover(
    sentinels: SentinelDeployment, protocol: int
) -> None:
    """The next master is found, the lease is kept there, and the grant heard."""
    async with _locks(sentinels, protocol) as here, _locks(sentinels, protocol) as there:
        lease = await here.lock("n", ttl=30.0).acquire()
        waiting = asyncio.create_task(there.lock("n", ttl=30.0, backoff=PATIENT).acquire())

        async def waiters() -> int:
            return len((await here.lock("n").inspect(timeout=10.0)).waiters)

        await eventually(waiters, 1)
        former = sentinels.master
        assert sentinels.ask(former, "WAIT", "2", "2000") == 2
        former.kill()
        await sentinels.failed_over(former)
        await lease.extend(30.0)
        await eventually(waiters, 1, within=10.0)
        await there.lock("other").locked()  # it is there as well, and hears
        await lease.release()
        async with asyncio.timeout(PATIENT.initial / 2):
            after = await waiting
        assert after.fencing_token > lease.fencing_token
        await after.release()
