"""A lease that nobody refers to any more is released, and told of."""

import asyncio
import gc
import sys
import textwrap
import threading
import warnings

import anyio
import pytest

from aiodistlock import Lease, LockClient
from aiodistlock.compat.redis_py import RedisPyLock
from tests.contract.world import World, free, turns
from tests.faults.world import lose

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def resource_warnings(caught: list[warnings.WarningMessage]) -> list[str]:
    """Return what was warned of."""
    return [str(it.message) for it in caught if it.category is ResourceWarning]


@pytest.mark.parametrize("acquired", ["acquire", "try_acquire"])
async def test_a_dropped_lease_is_released_and_told_of(
    world: World, first: LockClient, caplog: pytest.LogCaptureFixture, acquired: str
) -> None:
    """With the name of the lock and the age, in a warning and in the log."""
    lock = world.lock(first)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        lease = await (lock.acquire() if acquired == "acquire" else lock.try_acquire())
        assert lease is not None
        del lease
        await turns()  # the read that brought the answer goes on, and refers to it
        gc.collect()
        (told,) = resource_warnings(caught)
    assert "'wallet'" in told
    assert " s after it was acquired" in told
    assert told in caplog.messages
    with anyio.fail_after(10):
        await free(lock)


async def test_a_task_that_fails_gives_its_lease_up(world: World, first: LockClient) -> None:
    """The next waiter here gets the lock."""
    lock = world.lock(first)

    async def failing() -> None:
        _lease = await lock.acquire()
        raise KeyError("mine")

    task = asyncio.create_task(failing())
    await asyncio.wait([task])
    assert isinstance(task.exception(), KeyError)
    waiting = asyncio.create_task(lock.acquire(timeout=10))
    await turns()
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        del task
        gc.collect()
    await (await waiting).release()


async def test_a_lease_that_ended_is_dropped_in_silence(world: World, first: LockClient) -> None:
    """Released, lost, or of a block: nobody is told anything."""
    lock = world.lock(first)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        await (await lock.acquire()).release()
        async with lock:
            gc.collect()
            assert await lock.locked()
        async with lock.hold():
            gc.collect()
            assert await lock.locked()
        async with await lock.acquire():
            gc.collect()
            assert await lock.locked()
        lease: Lease | None = await lock.acquire()
        assert lease is not None
        lose(lease)
        await lease._process_lease.possessor.release_at_redis(lease._process_lease)
        del lease
        gc.collect()
        assert resource_warnings(caught) == []


async def test_the_collector_may_run_in_another_thread(first: LockClient, world: World) -> None:
    """The event loop releases the lease."""
    lock = world.lock(first)
    box: list[Lease] = [await lock.acquire()]
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        thread = threading.Thread(target=box.clear)
        thread.start()
        while thread.is_alive():
            await asyncio.sleep(0)
    with anyio.fail_after(10):
        await free(lock)


async def _run(code: str) -> tuple[int | None, str]:
    """Run a program, and return its status and what it told."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-Walways::ResourceWarning",
        "-c",
        textwrap.dedent(code),
        stderr=asyncio.subprocess.PIPE,
    )
    _, told = await process.communicate()
    return process.returncode, told.decode()


@pytest.mark.parametrize("world", ["memory"], indirect=True)
@pytest.mark.parametrize("when", ["in the loop", "behind the loop", "at the end"])
async def test_the_end_of_the_program_is_no_error(world: World, when: str) -> None:
    """A warning, where it can still be given; no traceback."""
    drops = {"in the loop": "box.clear()", "behind the loop": "", "at the end": ""}
    later = {"in the loop": "", "behind the loop": "box.clear()", "at the end": ""}
    status, told = await _run(
        f"""
        import asyncio, gc
        from aiodistlock import LockClient

        client, box = LockClient.in_memory(), []

        async def main():
            box.append(await client.lock("wallet").acquire())
            await asyncio.sleep(0)
            {drops[when]}

        asyncio.run(main())
        {later[when]}
        gc.collect()
        """
    )
    assert status == 0
    assert "Traceback" not in told
    assert "Exception ignored" not in told
    assert ("nobody has the lease on 'wallet'" in told) == (when != "at the end")


@pytest.mark.parametrize("world", ["resp3"], indirect=True)
async def test_a_lease_that_takes_its_client_along_is_told_of(
    world: World, redis_url: str, first: LockClient
) -> None:
    """At the worst its key expires by itself."""
    import redis.asyncio as redis_asyncio

    from aiodistlock import AsyncLock

    lock = world.lock(first)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        redis = redis_asyncio.from_url(redis_url)
        lease = await AsyncLock(redis, "wallet", ttl=1.0, namespace=world.namespace).acquire()
        del redis, lease
        await turns()
        gc.collect()
        assert any("'wallet'" in told for told in resource_warnings(caught))
    with anyio.fail_after(10):
        await free(lock)


@pytest.mark.parametrize("world", ["resp3"], indirect=True)
async def test_a_lock_of_redis_pys_kind_keeps_its_key(world: World, redis_url: str) -> None:
    """As redis-py's: whoever has the token may release it, so the object may go."""
    import redis.asyncio as redis_asyncio

    async with redis_asyncio.from_url(redis_url) as redis:
        lock = RedisPyLock(redis, f"{world.namespace}wallet", timeout=5)
        assert await lock.acquire()
        token = lock.local.token
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del lock
            gc.collect()
            assert not [told for told in resource_warnings(caught) if "lease" in told]
        other = RedisPyLock(redis, f"{world.namespace}wallet", timeout=5)
        assert await other.locked()
        await other.do_release(token)
