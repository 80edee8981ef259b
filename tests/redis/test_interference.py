"""What others do to a lock's key: operators, and clients that know only SET NX."""

import pytest
from redis.asyncio import Redis

from aiodistlock import AcquireTimeout, LeaseLost, LockClient


async def test_a_release_of_a_key_that_is_gone_is_a_loss(
    redis: Redis, redis_url: str, namespace: str
) -> None:
    """Release and extension wait for Redis' answer, and tell that the lease was lost."""
    async with LockClient.from_url(redis_url) as client:
        lock = client.lock("wallet", namespace=namespace)
        for thief in (None, "somebody else"):
            for use in ("release", "extend"):
                lease = await lock.acquire()
                await redis.delete(f"{namespace}wallet")
                if thief is not None:
                    await redis.set(f"{namespace}wallet", thief, px=60_000)
                with pytest.raises(LeaseLost):
                    await (lease.extend(5.0) if use == "extend" else lease.release())
                assert not lease.is_held
                left = await redis.get(f"{namespace}wallet")
                assert left == (None if thief is None else thief.encode())
                await redis.delete(f"{namespace}wallet")


async def test_a_block_that_lost_its_key_says_so(
    redis: Redis, redis_url: str, namespace: str
) -> None:
    """A block whose lease is gone at the server raises, though nobody noticed before."""
    async with LockClient.from_url(redis_url) as client:
        lock = client.lock("wallet", namespace=namespace)
        with pytest.raises(LeaseLost, match="gone"):
            async with lock:
                await redis.delete(f"{namespace}wallet")
        with pytest.raises(LeaseLost, match="gone"):
            async with lock.hold():
                await redis.delete(f"{namespace}wallet")


async def test_redis_pys_own_lock_is_excluded(redis: Redis, redis_url: str, namespace: str) -> None:
    """A lock of redis-py on the same key and ours exclude each other, both ways."""
    async with LockClient.from_url(redis_url) as client:
        ours = client.lock("wallet", namespace=namespace)
        theirs = redis.lock(f"{namespace}wallet", timeout=10.0, blocking=False)
        async with ours:
            assert await theirs.acquire() is False
        assert await theirs.acquire() is True
        assert await ours.try_acquire() is None
        await theirs.release()
        async with ours.hold(timeout=0):
            pass


async def test_a_key_without_a_ttl_is_somebodys(
    redis: Redis, redis_url: str, namespace: str
) -> None:
    """A naive holder's key, which never expires, is respected, and told of as such."""
    async with LockClient.from_url(redis_url) as client:
        lock = client.lock("wallet", namespace=namespace)
        await redis.set(f"{namespace}wallet", "naive", nx=True)
        for timeout in (0, 0.05):
            with pytest.raises(AcquireTimeout, match="no ttl") as caught:
                await lock.acquire(timeout=timeout)
            assert (caught.value.holder, caught.value.holder_ttl) == ("naive", None)
        info = await lock.inspect()
        assert (info.holder, info.ttl) == ("naive", None)
        await redis.delete(f"{namespace}wallet")
