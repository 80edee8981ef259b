"""Where the contract holds: memory, Redis under both protocols, fakeredis, a cluster, a quorum."""

import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import fakeredis
import pytest

from aiodistlock import LockClient
from tests.contract.world import ORDERED, STYLES, World
from tests.deployments.cluster import Cluster


@pytest.fixture(params=[*ORDERED, "quorum"])
def world(request: pytest.FixtureRequest) -> World:
    """A place for locks; on Redis with a namespace that must be empty afterwards."""
    if request.param == "memory":
        server = LockClient.in_memory()
        return World(f"t:{uuid.uuid4().hex[:12]}:", lambda: LockClient.in_memory(share=server))
    if request.param == "fakeredis":
        fake = fakeredis.FakeServer()
        return World("t:", lambda: LockClient(fakeredis.FakeAsyncRedis(server=fake)))
    if request.param == "quorum":
        urls: list[str] = request.getfixturevalue("quorum_urls")
        return World(request.getfixturevalue("quorum_namespace"), lambda: LockClient.from_url(urls))
    if request.param == "cluster":
        cluster: Cluster = request.getfixturevalue("cluster")
        if not cluster.sharded and request.node.get_closest_marker("needs_queue"):
            pytest.skip("before Redis 7 the waiters on a cluster poll: there is no queue")
        return World(
            request.getfixturevalue("cluster_namespace"),
            lambda: LockClient.from_url(cluster.url),
        )
    url: str = request.getfixturevalue("redis_url")
    namespace: str = request.getfixturevalue("namespace")
    protocol = 3 if request.param == "resp3" else 2
    return World(namespace, lambda: LockClient.from_url(url, protocol=protocol))


@pytest.fixture
async def processes(world: World) -> AsyncIterator[list[LockClient]]:
    """Four clients that see the same locks, as four processes would."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(world.open()) for _ in range(4)]


@pytest.fixture
def first(processes: list[LockClient]) -> LockClient:
    """The client that most tests act in."""
    return processes[0]


@pytest.fixture
def second(processes: list[LockClient]) -> LockClient:
    """Another client: what ``first`` has to share the locks with."""
    return processes[1]


@pytest.fixture(params=STYLES)
def style(request: pytest.FixtureRequest) -> str:
    """How the lock is held; for :func:`tests.contract.world.held`."""
    param: str = request.param
    return param
