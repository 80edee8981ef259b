"""Two names are two locks on several servers, too, and no grant of one is taken for another's."""

import asyncio
from collections.abc import Iterator

import pytest
from anyio import fail_after

from aiodistlock import LockClient
from tests.deployments.cluster import Cluster
from tests.deployments.quorum import Nodes
from tests.faults.world import eventually

pytestmark = pytest.mark.bounded(60)

ALIKE = [("cart", "{cart}"), ("{a}b", "{a}:{a}b"), (":{a}", "{a}"), ("{x}", "{x}:queue")]


@pytest.fixture(params=["cluster", "quorum"])
def urls(request: pytest.FixtureRequest) -> Iterator[str | list[str]]:
    """Where the locks are."""
    if request.param == "quorum":
        nodes: Nodes = request.getfixturevalue("nodes")
        yield nodes.urls[:3]
        return
    cluster: Cluster = request.getfixturevalue("cluster")
    if not cluster.sharded:
        pytest.skip("no sharded channels before Redis 7: nobody queues")
    try:
        yield cluster.url
    finally:
        for pair in ALIKE:
            for key in pair:
                cluster.owner(key).command("DEL", key)


@pytest.mark.parametrize(("one", "other"), ALIKE)
async def test_names_that_are_alike_are_two_locks(
    urls: str | list[str], one: str, other: str
) -> None:
    """Who waits for one gets it from its holder, and not when the other is released."""
    async with LockClient.from_url(urls) as here, LockClient.from_url(urls) as there:
        first, second, third = (
            each.lock(name, namespace="", ttl=20.0, timeout=15.0)
            for each, name in ((here, one), (here, other), (there, other))
        )

        async def queued() -> int:
            return len((await second.inspect(timeout=10.0)).waiters)

        with fail_after(40):
            held, also = await first.acquire(), await second.acquire()
            assert held.fencing_token != also.fencing_token
            waiting = asyncio.create_task(third.acquire())
            await eventually(queued, 1, within=10.0)
            await held.release()
            again = await first.acquire()
            # A way to the other client and back behind that release.
            assert not await there.lock("a third", namespace="").locked()
            assert await queued() == 1
            assert not waiting.done()
            await also.release()
            after = await waiting
            assert after.fencing_token > also.fencing_token
            assert again.is_held
            await after.release()
            await again.release()
