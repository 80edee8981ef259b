"""What locks on one client share, from its first use to its end."""

import asyncio

import pytest
from anyio import fail_after

from aiodistlock import AsyncLock, LeaseLost, LockClient, LockError, LockInfo
from tests.contract.world import World, free, held, queued, turns


@pytest.mark.needs_queue
async def test_inspect_tells_holder_and_waiters(
    world: World, first: LockClient, second: LockClient
) -> None:
    """``inspect`` and ``locked`` tell what the store has, and change nothing."""
    lock, other = world.lock(first), world.lock(second)
    assert await other.inspect() == LockInfo(None, None, None, ())
    assert not await other.locked()
    async with lock as lease:
        info = await other.inspect()
        assert info.holder == lease.token
        assert info.fencing_token == lease.fencing_token
        assert info.ttl is not None
        assert 5.0 < info.ttl <= 10.0
        assert info.waiters == ()
        assert await other.locked()
        waiting = asyncio.create_task(other.acquire())
        await queued(lock, 1)
        (waiter,) = (await lock.inspect()).waiters
    newer = await waiting
    # On a quorum each round of an acquisition adds its number.
    assert newer.token == waiter or newer.token.startswith(f"{waiter}.")
    await newer.release()
    info = await lock.inspect()
    assert info == LockInfo(None, None, None, ())


async def test_the_label_of_a_lock_and_of_its_repr(world: World, first: LockClient) -> None:
    """A lock tells its name and its ttl."""
    lock = world.lock(first, "wallet:42", ttl=3.0)
    assert lock.name == "wallet:42"
    assert "'wallet:42'" in repr(lock)
    assert "3 s" in repr(lock)


async def test_a_client_in_use_is_ended_by_aclose(world: World, second: LockClient) -> None:
    """``aclose`` releases what is held, cancels the bodies, and ends the waits."""
    client = world.open()
    lock = world.lock(client, "one")
    lease = await world.lock(client, "two").acquire()
    entered = asyncio.Event()

    async def body() -> None:
        async with lock:
            entered.set()
            await asyncio.Event().wait()

    holder = asyncio.create_task(body())
    await entered.wait()
    waiters = [asyncio.create_task(lock.acquire()) for _ in range(3)]
    await turns()
    watcher = asyncio.create_task(lease.wait_lost())
    await turns()
    await client.aclose()
    with fail_after(5):
        await asyncio.wait([holder, watcher, *waiters])
    for waiter in waiters:
        with pytest.raises(LockError, match="closed") as caught:
            waiter.result()
        assert caught.value.name == "one"
    with pytest.raises(LeaseLost, match="closed"):
        holder.result()
    assert watcher.result() is True
    assert not lease.is_held
    await free(world.lock(second, "one"))
    await free(world.lock(second, "two"))


@pytest.mark.needs_queue
async def test_aclose_takes_a_place_in_the_queue_along(world: World, first: LockClient) -> None:
    """A client that is closed while it waits leaves nothing behind."""
    client, lock = world.open(), world.lock(first)
    async with lock:
        waiting = asyncio.create_task(world.lock(client).acquire())
        await queued(lock, 1)
        await client.aclose()
        with pytest.raises(LockError, match="closed"):
            await waiting
        assert (await lock.inspect()).waiters == ()


@pytest.mark.needs_queue
async def test_aclose_hands_the_lock_to_the_next(world: World, first: LockClient) -> None:
    """What a client held when it was closed goes to the next waiter at once."""
    client, waiting = world.open(), world.lock(first)
    lock = world.lock(client)
    lease = await lock.acquire()
    task = asyncio.create_task(waiting.acquire())
    await queued(lock, 1)
    await client.aclose()
    with fail_after(5):
        newer = await task
    assert newer.fencing_token > lease.fencing_token
    await newer.release()


@pytest.mark.parametrize("used", [False, True])
async def test_aclose_twice_is_harmless(world: World, used: bool) -> None:
    """A client may be closed again, and without having been used."""
    client = world.open()
    if used:
        async with world.lock(client):
            pass
    await client.aclose()
    await client.aclose()
    async with client:
        pass


@pytest.mark.parametrize("used", [False, True])
async def test_a_closed_client_is_of_no_use(world: World, style: str, used: bool) -> None:
    """Whatever is asked of a closed client is a clear error, not a hang."""
    client = world.open()
    lock = world.lock(client)
    if used:
        async with lock:
            pass
    await client.aclose()

    async def acquire() -> None:
        async with held(lock, style):
            pass

    for ask in (acquire, lock.try_acquire, lock.inspect, lock.locked):
        with pytest.raises(LockError, match="closed"):
            await ask()


async def test_a_lease_of_a_closed_client_says_why(world: World) -> None:
    """Releasing by hand after the close is a clear error."""
    client = world.open()
    lease = await world.lock(client).acquire()
    await client.aclose()
    assert not lease.is_held
    with pytest.raises(LeaseLost, match="closed"):
        lease.check()
    with pytest.raises(LockError):
        await lease.release()


async def test_a_context_manager_closes(world: World, second: LockClient) -> None:
    """Leaving the client's block closes it, also by an exception."""
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the block raises
        async with world.open() as client:
            await world.lock(client).acquire()
            1 / 0  # noqa: B018 - the body's own error
    await free(world.lock(second))
    with pytest.raises(LockError, match="closed"):
        await world.lock(client).acquire()


def test_a_client_belongs_to_the_loop_that_used_it(world: World) -> None:
    """In another event loop a client is a clear error, open loop or closed."""
    client = world.open()
    lock = world.lock(client)

    async def use() -> None:
        async with lock:
            pass

    async def misuse() -> str:
        with pytest.raises(LockError) as caught:
            await use()
        with pytest.raises(LockError):
            await lock.inspect()
        return str(caught.value)

    first, other = asyncio.new_event_loop(), asyncio.new_event_loop()
    try:
        first.run_until_complete(use())
        assert "another event loop; use one" in other.run_until_complete(misuse())
        first.run_until_complete(client.aclose())
    finally:
        first.close()
        other.close()


def test_a_client_whose_loop_is_closed_says_so(world: World) -> None:
    """After ``asyncio.run`` has ended, the client of that loop is a clear error."""
    client = world.open()
    lock = world.lock(client)

    async def use() -> None:
        async with lock:
            pass

    async def misuse() -> None:
        with pytest.raises(LockError, match="loop that is closed"):
            await lock.acquire()

    asyncio.run(use())
    asyncio.run(misuse())


async def test_locks_of_one_client_are_made_by_either_way(world: World, first: LockClient) -> None:
    """``client.lock(...)`` and ``AsyncLock(client, ...)`` are the same lock."""
    one = world.lock(first)
    other = AsyncLock(first, "wallet", namespace=world.namespace)
    async with one:
        assert await asyncio.create_task(other.try_acquire()) is None


async def test_in_memory_clients_share_only_with_each_other() -> None:
    """Without ``share`` an in-memory client has a store of its own."""
    one, apart = LockClient.in_memory(), LockClient.in_memory()
    together = LockClient.in_memory(share=one)
    async with one, apart, together, one.lock("wallet"):
        assert await together.lock("wallet").locked()
        assert not await apart.lock("wallet").locked()


def test_in_memory_shares_with_nothing_else() -> None:
    """A client of a real Redis is no store to share."""
    with pytest.raises(TypeError, match="in_memory"):
        LockClient.in_memory(share=LockClient.from_url("redis://localhost"))
