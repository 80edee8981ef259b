"""``RedisCluster.lock(lock_class=...)``: the same face, on whichever primary has the key."""

import asyncio

import pytest
from redis.asyncio.lock import Lock
from redis.exceptions import LockError, LockNotOwnedError

from aiodistlock.compat import RedisPyLock
from tests.deployments.cluster import Cluster
from tests.redis.clients import closing


@pytest.fixture
def names(cluster_namespace: str) -> list[str]:
    """Keys that lie on several primaries, one with a hash tag."""
    return [*(f"{cluster_namespace}{n}" for n in range(5)), f"{cluster_namespace}{{tag}}:x"]


async def test_a_cluster_has_the_same_face(
    cluster: Cluster, names: list[str], lock_class: type[Lock]
) -> None:
    """Key and value, with and without timeout, and each method, on every primary."""
    async with closing(cluster.client()) as redis:
        for name in names:
            for timeout in (10, None):
                lock = redis.lock(name, timeout, lock_class=lock_class)
                assert type(lock) is lock_class
                async with lock:
                    assert await redis.get(name) == lock.local.token
                    assert (await redis.pttl(name) == -1) is (timeout is None)
                    assert await lock.owned()
                    if timeout is not None:
                        assert await lock.extend(10)
                        assert await lock.extend(5, replace_ttl=True)
                        assert await lock.reacquire()
                        assert 5_000 < await redis.pttl(name) <= 10_000
                    other = redis.lock(name, lock_class=lock_class, sleep=0.01)
                    assert not await other.acquire(blocking=False, token="mine")
                    with pytest.raises(LockError, match="Cannot release"):
                        await other.release()
                assert not await lock.locked()
            lock = redis.lock(name, 10, lock_class=lock_class)
            assert await lock.acquire(token="mine")
            await redis.delete(name)
            with pytest.raises(LockNotOwnedError):
                await lock.release()


@pytest.mark.parametrize("timeout", [10, None])
async def test_old_and_new_exclude_each_other_on_a_cluster(
    cluster: Cluster, names: list[str], timeout: float | None
) -> None:
    """Tasks with either lock, on clients of their own: nobody is inside with another."""
    inside = dict.fromkeys(names, 0)

    async def work(lock_class: type[Lock]) -> None:
        async with closing(cluster.client()) as redis:
            for _ in range(5):
                for name in names:
                    async with redis.lock(name, timeout, 0.005, lock_class=lock_class):
                        inside[name] += 1
                        assert inside[name] == 1
                        await asyncio.sleep(0.002)  # real time: others try meanwhile
                        inside[name] -= 1

    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        for lock_class in (Lock, RedisPyLock, RedisPyLock, Lock, RedisPyLock):
            tasks.create_task(work(lock_class))
