"""A failover behind Sentinels while what left in one write is unanswered."""

import asyncio
from typing import Any

import pytest

from aiodistlock import Lease, LockClient
from aiodistlock.connection.pipe import Pipe
from aiodistlock.testing.embedded import EmbeddedRedis
from tests.deployments.sentinel import SentinelDeployment
from tests.faults.world import eventually

pytestmark = pytest.mark.bounded(60)

COUNT = 20

NAMES = [f"n{number}" for number in range(COUNT)]


async def _fail_over(sentinels: SentinelDeployment, frozen: EmbeddedRedis, how: str) -> None:
    """Have a frozen master stay so, or die; wait for the next."""
    if how == "kill":
        frozen.kill()
    await sentinels.failed_over(frozen)


async def _sent(locks: LockClient) -> None:
    """Wait until all that was asked for is on the wire, as one request."""
    pipe = locks._engine("n").connection
    assert isinstance(pipe, Pipe)
    backlog = pipe._backlog
    async with asyncio.timeout(5):
        while len(list(backlog.on_the_wire())) < COUNT:
            await asyncio.sleep(0)
    assert len(backlog.sent) == 1


def _batches(sentinels: SentinelDeployment) -> int:
    """Count the scripts that the new master has run, each one or many at a time."""
    stats = sentinels.ask(sentinels.master, "INFO", "commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("eval", "evalsha"))


def _values(sentinels: SentinelDeployment, server: EmbeddedRedis) -> dict[str, str]:
    """Return what stands at the keys of the locks on a server."""
    found = sentinels.ask(server, "MGET", *(f"lock:{name}" for name in NAMES))
    pairs = zip(NAMES, found, strict=True)
    return {name: value.decode() for name, value in pairs if value is not None}


async def _all(locks: LockClient) -> list[Lease]:
    """Acquire all in one turn of the loop."""
    wanted = (locks.lock(name, ttl=40.0).acquire() for name in NAMES)
    return list(await asyncio.gather(*wanted))


async def _followed(sentinels: SentinelDeployment, former: EmbeddedRedis) -> None:
    """Have a former master go on, and wait until it is a replica in step with the new one."""
    if not former.is_running:
        return
    former.thaw()

    async def role() -> tuple[Any, ...]:
        found = sentinels.ask(former, "ROLE")
        return found[0], int(found[2]) if found[0] == b"slave" else 0, found[3:4]

    master = sentinels.master_port
    await eventually(role, (b"slave", master, [b"connected"]), within=20)


@pytest.mark.parametrize("how", ["freeze", "kill"])
async def test_acquisitions_of_one_write_have_their_locks_at_the_new_master(
    sentinels: SentinelDeployment, how: str
) -> None:
    """Each has one lease there, whatever the former one does with its copy of the batch."""
    async with sentinels.locks() as locks:
        await locks.lock("n").locked()
        former = sentinels.master
        former.freeze()
        acquiring = asyncio.create_task(_all(locks))
        await _sent(locks)
        await _fail_over(sentinels, former, how)
        leases = await acquiring
        held = {lease.name: f"{lease.token} {lease.fencing_token}" for lease in leases}
        assert _values(sentinels, sentinels.master) == held
        assert _batches(sentinels) < COUNT
        # It runs what it got before, and then forgets it.
        await _followed(sentinels, former)
        assert all(lease.is_held for lease in leases)
        assert _values(sentinels, sentinels.master) == held
        await asyncio.gather(*(lease.release() for lease in leases))
        assert _values(sentinels, sentinels.master) == {}


@pytest.mark.parametrize("how", ["freeze", "kill"])
async def test_releases_of_one_write_are_done_at_the_new_master(
    sentinels: SentinelDeployment, how: str
) -> None:
    """No lock stays until its ttl is over, and the next holders are nobody's to disturb."""
    async with sentinels.locks() as locks, sentinels.locks() as others:
        leases = await _all(locks)
        former = sentinels.master
        assert sentinels.ask(former, "WAIT", "2", "5000") == 2
        former.freeze()
        releasing = asyncio.gather(*(lease.release() for lease in leases))
        await _sent(locks)
        await _fail_over(sentinels, former, how)
        await releasing

        async def left() -> dict[str, str]:
            return _values(sentinels, sentinels.master)

        await eventually(left, {}, within=10)
        assert _batches(sentinels) < COUNT
        next_leases = await _all(others)
        await _followed(sentinels, former)
        assert len(await left()) == COUNT
        for before, after in zip(leases, next_leases, strict=True):
            assert after.fencing_token > before.fencing_token
        await asyncio.gather(*(lease.release() for lease in next_leases))
