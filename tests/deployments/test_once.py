"""What is done once a window, behind Sentinels that fail over, and on a Cluster that changes."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
import redis as redis_sync

from aiodistlock import LeaseLost, Once, Ran, Run, Skipped, StoreUnavailable
from aiodistlock.testing.discovery import LOOPBACK
from tests.deployments.cluster import Cluster
from tests.deployments.sentinel import SentinelDeployment
from tests.deployments.world import clients

pytestmark = pytest.mark.bounded(90)


async def at_once(run: Run) -> int:
    """Be done."""
    run.check()
    return run.fencing_token


async def done(once: Once, job: Callable[[Run], Awaitable[int]]) -> Ran[int] | Skipped:
    """Have the second window done, however often it takes."""
    while True:
        try:
            return await once.run(job, window=2)
        except (LeaseLost, StoreUnavailable):
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_failover_in_the_middle_of_a_run_has_the_window_done_once(
    sentinels: SentinelDeployment, protocol: int
) -> None:
    """The mark of the one before it is at the new primary; one run of this one is marked there."""
    begun, gate = asyncio.Event(), asyncio.Event()
    fences: list[int] = []

    async def slow(run: Run) -> int:
        fences.append(run.fencing_token)
        begun.set()
        await gate.wait()
        return run.fencing_token

    async with (
        sentinels.locks(protocol=protocol) as here,
        sentinels.locks(protocol=protocol) as there,
        asyncio.timeout(80),
    ):
        ours, theirs = (each.once("job", ttl=15.0) for each in (here, there))
        assert isinstance(await ours.run(at_once, window=1), Ran)
        former = sentinels.master
        running = asyncio.create_task(done(ours, slow))
        await begun.wait()
        with redis_sync.Redis.from_url(former.url) as direct:
            direct.set("after", "the mark")  # WAIT is for what its own connection has written
            while await asyncio.to_thread(direct.wait, 2, 1_000) < 2:
                pass
        waiting = asyncio.create_task(done(theirs, slow))
        former.kill()
        await sentinels.failed_over(former)
        gate.set()
        outcomes = [await running, await waiting]
        (ran,) = [each for each in outcomes if isinstance(each, Ran)]
        (skipped,) = [each for each in outcomes if isinstance(each, Skipped)]
        assert skipped.reason == "done"
        assert fences == sorted(set(fences))
        assert ran.value == fences[-1]
        for window in (1, 2):
            assert isinstance(await theirs.run(at_once, window=window), Skipped)
        later = await theirs.run(at_once, window=3)
    assert isinstance(later, Ran)
    assert later.value > ran.value


@pytest.mark.parametrize("moved", [[], ["key"], ["done"]])
@pytest.mark.parametrize("options", [{}, {"on_crash": "skip"}], ids=["retry", "skip"])
async def test_a_window_is_done_once_the_slot_has_arrived(
    cluster: Cluster, cluster_namespace: str, moved: list[str], options: dict[str, str]
) -> None:
    """Its end and the next beginning wait, whichever keys are where, and nothing is done twice."""
    key = f"{cluster_namespace}job"
    begun, gate = asyncio.Event(), asyncio.Event()

    async def slow(run: Run) -> int:
        begun.set()
        await gate.wait()
        return run.fencing_token

    async with clients(cluster) as (here, there), asyncio.timeout(60):
        ours, theirs = (
            each.once("job", ttl=60.0, namespace=cluster_namespace, **options)  # type: ignore[arg-type]  # any
            for each in (here, there)
        )
        assert isinstance(await ours.run(at_once, window=1), Ran)
        running = asyncio.create_task(ours.run(slow, window=2))
        await begun.wait()
        source, (target, *_) = cluster.owner(key), cluster.others(key)
        await asyncio.to_thread(cluster.begin_migration, key, target)
        names = {"key": ours._keys.key, "done": ours._keys.done}
        for part in moved:
            source.command("MIGRATE", LOOPBACK, target.port, names[part], 0, 2000)
        gate.set()
        asking = asyncio.create_task(theirs.run(at_once, window=2))
        # Real time: both are to be refused a few times.
        await asyncio.sleep(0.3)
        await asyncio.to_thread(cluster.move_keys, key, target)
        await asyncio.to_thread(cluster.end_migration, key, target)
        assert isinstance(await running, Ran)
        skipped = await asking
        assert isinstance(skipped, Skipped)
        assert skipped.reason == "done" or options
        async with cluster.client() as redis:
            await redis.delete(ours._keys.done)
