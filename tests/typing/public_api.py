"""The types that users see: checked by mypy and pyright, never run."""

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import assert_type

from redis.asyncio import Redis, RedisCluster

from aiodistlock import (
    AcquireTimeout,
    AsyncLock,
    Backoff,
    Hold,
    Lease,
    LeaseLost,
    LockClient,
    LockError,
    LockInfo,
    NotHeld,
    StoreUnavailable,
    Together,
    locked,
)


async def locks(redis: Redis) -> None:
    """Every way to make and to hold a lock."""
    lock = AsyncLock(
        redis,
        "wallet:42",
        ttl=10.0,
        auto_renew=True,
        timeout=None,
        max_hold=None,
        on_lost="cancel",
        local_handoffs=128,
        backoff=Backoff(initial=0.05, factor=2.0, cap=1.0, jitter=0.5),
        namespace="lock:",
        reentrant=False,
        ack="local",
    )
    assert_type(lock.name, str)
    async with lock as lease:
        assert_type(lease, Lease)
    async with lock.hold() as lease:
        assert_type(lease, Lease)
    async with lock.hold(timeout=2.0) as lease, lock.hold(timeout=None) as other:
        assert_type(other, Lease)
    async with AsyncExitStack() as stack:  # takes what is an AbstractAsyncContextManager
        assert_type(await stack.enter_async_context(lock), Lease)
        assert_type(await stack.enter_async_context(lock.hold()), Lease)
    assert_type(lock.hold(), Hold)
    assert_type(await lock.acquire(), Lease)
    assert_type(await lock.acquire(timeout=2), Lease)
    assert_type(await lock.acquire(timeout=None), Lease)
    assert_type(await lock.acquire(timedelta(seconds=2)), Lease)
    assert_type(await lock.try_acquire(), Lease | None)
    assert_type(await lock.locked(), bool)
    assert_type(await lock.inspect(), LockInfo)


async def refused(redis: Redis, lock: AsyncLock) -> None:
    """What a type checker must not let pass: an unused ignore is an error."""
    AsyncLock(redis, "wallet", on_lost="explode")  # type: ignore[arg-type]
    AsyncLock(redis, "wallet", 10.0)  # type: ignore[call-arg]
    AsyncLock(redis, b"wallet")  # type: ignore[arg-type]
    AsyncLock("redis://localhost", "wallet")  # type: ignore[arg-type]
    AsyncLock(redis, "wallet", timeout="2")  # type: ignore[arg-type]
    await lock.acquire(timeout="2")  # type: ignore[arg-type]
    (await lock.try_acquire()).check()  # type: ignore[union-attr]


def options(redis: Redis, cluster: RedisCluster) -> None:
    """Wherever options are passed on, a checker knows them."""
    second = timedelta(seconds=1)
    locks = LockClient(redis, unavailable_after=second, quarantine=second)
    locks.lock("w", ttl=second, timeout=2, max_hold=None, backoff=Backoff(second), ack="fsync")
    locks.lock("w", ttl="wrong")  # type: ignore[arg-type]
    locks.lock("w", nonsense=4)  # type: ignore[call-arg]
    LockClient.from_url("redis://h", quarantine=second, socket_timeout=1.0, sentinel_password="p")
    LockClient.from_url("redis://h", ttl=3.0)  # type: ignore[call-arg]
    LockClient.from_url("redis://h", claim_window="1")  # type: ignore[arg-type]
    locked("w", cluster, ttl=second, reentrant=True)
    locked("w", [redis, redis], timeout=None)
    locked("w", lambda: cluster)
    locked("w", redis, ttl="wrong")  # type: ignore[arg-type]
    locked("w", redis, nonsense=4)  # type: ignore[call-arg]
    locked("w", "redis://h")  # type: ignore[arg-type]


async def leases(lease: Lease) -> None:
    """What a holder has."""
    assert_type(lease.name, str)
    assert_type(lease.token, str)
    assert_type(lease.fencing_token, int)
    assert_type(lease.validity, float)
    assert_type(lease.is_held, bool)
    assert_type(await lease.wait_lost(), bool)
    lease.check()
    await lease.extend(30.0)
    await lease.extend(timedelta(minutes=1))
    await lease.extend("30")  # type: ignore[arg-type]
    await lease.release()


async def clients(redis: Redis) -> None:
    """Every way to make a client."""
    client = LockClient(
        redis,
        label="worker-7",
        unavailable_after=30.0,
        claim_window=1.0,
        handoff_span=0.05,
    )
    assert_type(client.lock("wallet", ttl=5.0), AsyncLock)
    assert_type(client.together("a", client.lock("b"), ttl=5.0, timeout=2.0), Together)
    client.together(["a", "b"])  # type: ignore[arg-type]
    client.together("a", nonsense=4)  # type: ignore[call-arg]
    async with client.together("a", "b") as leases:
        assert_type(leases, tuple[Lease, ...])
    await client.aclose()
    async with LockClient.from_url("redis://localhost", label="a", protocol=3) as opened:
        assert_type(opened, LockClient)
    async with LockClient.in_memory() as ours, LockClient.in_memory(share=ours) as theirs:
        assert_type(theirs, LockClient)
        AsyncLock(theirs, "wallet")


def information(info: LockInfo) -> None:
    """What ``inspect`` tells."""
    assert_type(info.holder, str | None)
    assert_type(info.fencing_token, int | None)
    assert_type(info.ttl, float | None)
    assert_type(info.waiters, tuple[str, ...])


def errors(error: LockError) -> None:
    """What the errors carry."""
    assert_type(error.name, str)
    if isinstance(error, AcquireTimeout):
        builtin: TimeoutError = error
        assert_type(str(builtin), str)
        assert_type(error.timeout, float)
        assert_type(error.holder, str | None)
        assert_type(error.holder_ttl, float | None)
    elif isinstance(error, LeaseLost):
        assert_type(error.reason, str)
        assert_type(error.fencing_token, int)
    elif isinstance(error, StoreUnavailable):
        assert_type(error.causes, tuple[Exception, ...])
    elif isinstance(error, NotHeld):
        assert_type(str(error), str)


def source() -> LockClient:
    """Return the client at the time of the call."""
    return LockClient.in_memory()


@locked("wallet:{wallet_id}", source, ttl=5.0)
async def reconcile(wallet_id: int, *, lease: Lease | None = None) -> str:
    """Stand for a user's function."""
    return f"{wallet_id} {lease}"


async def decorated() -> None:
    """The decorator keeps parameters and result, and makes a coroutine."""
    assert_type(await reconcile(42), str)
    task = asyncio.create_task(reconcile(wallet_id=42))
    assert_type(await task, str)
    await reconcile("42")  # type: ignore[arg-type]
    await reconcile()  # type: ignore[call-arg]
