"""What is done once a window, by a host whose clock is wrong, over connections that break."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

import anyio
import pytest
import redis.asyncio as redis_asyncio

from aiodistlock import Backoff, LockError, Ran, Run, Skipped, StoreUnavailable
from aiodistlock.testing.embedded import EmbeddedRedis
from tests.faults import once_main
from tests.faults.world import SCRIPTS, client, eventually, load_scripts, nothing_left
from tests.proxy import ChaosProxy, Do, on


@pytest.mark.parametrize("skew", [-86_400.0, 86_400.0])
async def test_the_hosts_clock_tells_no_window(
    redis_url: str,
    redis: redis_asyncio.Redis,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
    skew: float,
) -> None:
    """It is a day off, and the window is the server's."""
    for name in ("time", "time_ns"):
        monkeypatch.setattr(time, name, getattr(time, name))  # to have it back afterwards
    once_main.set_wall_clock(skew)
    every = timedelta(minutes=10)
    async with client(redis_url) as here:
        once = here.once("job", every=every, namespace=namespace)
        before = (await redis.time())[0]

        async def window(run: Run) -> float:
            return run.window.timestamp()

        outcome = await once.run(window)
    after = (await redis.time())[0]
    assert isinstance(outcome, Ran)
    assert before - before % 600 <= outcome.value <= after
    assert outcome.value % 600 == 0
    await redis.delete(once._keys.done)


async def test_an_end_that_redis_does_not_confirm_is_told(
    redis_url: str, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """``StoreUnavailable``, though the work is done: somebody may repeat the window."""
    proxy = ChaosProxy.before(redis_url)
    proxy.script_names = SCRIPTS
    async with proxy, client(proxy.url, unavailable_after=1.0) as here:
        await load_scripts(redis)
        once = here.once("job", ttl=1.0, namespace=namespace)
        ended = []

        async def job(_run: Run) -> None:
            proxy.rules = [on("request", "MARK", Do.BLACK_HOLE)]
            ended.append(True)

        with anyio.fail_after(30), pytest.raises(StoreUnavailable):
            await once.run(job, window=1)
        assert ended
        proxy.rules = []
    assert await redis.get(once._keys.done) is None
    await nothing_left(redis, namespace)


async def test_a_late_copy_of_an_unheard_end_is_not_taken_for_done(
    redis_url: str, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """The request is lost, the lease ends, and then the copy comes: no mark, so it is lost."""
    proxy = ChaosProxy.before(redis_url)
    proxy.script_names = SCRIPTS
    async with proxy, client(proxy.url) as here:
        await load_scripts(redis)
        once = here.once("job", ttl=20.0, namespace=namespace)

        async def job(_run: Run) -> None:
            proxy.rules = [on("request", "MARK", Do.CUT_BEFORE, number=1)]
            await redis.delete(once._keys.key)

        with anyio.fail_after(30), pytest.raises(LockError, match="gone"):
            await once.run(job, window=1)
    assert await redis.get(once._keys.done) is None


async def test_an_end_that_is_refused_for_a_while_is_not_given_up_by_who_waits_beside_it(
    embedded_redis: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another task of the process finds a token of ours at the key that nobody here holds."""
    # It is asked again after two seconds: in the meantime the other one comes.
    monkeypatch.setattr("aiodistlock.once._BACKOFF", Backoff(initial=2.0, cap=2.0, jitter=0.0))
    runs: list[int] = []
    proxy = ChaosProxy.before(embedded_redis.url)
    proxy.script_names = SCRIPTS
    async with (
        proxy,
        client(proxy.url) as here,
        redis_asyncio.from_url(embedded_redis.url) as admin,
    ):
        await load_scripts(admin)

        async def job(_run: Run) -> None:
            runs.append(len(runs))
            await admin.config_set("maxmemory", 0 if runs[1:] else 1)

        first = asyncio.create_task(here.once("job", ttl=20.0).run(job, window=1))
        with anyio.fail_after(30):
            await proxy.seen("reply", "MARK")  # refused
            await admin.config_set("maxmemory", 0)
            outcome = await here.once("job", ttl=20.0).run(job, window=1)
            assert isinstance(await first, Ran)
    assert isinstance(outcome, Skipped)
    assert outcome.reason == "done"
    assert len(runs) == 1


@asynccontextmanager
async def in_a_child() -> AsyncIterator[bool]:
    """Fork; tell whether this is the child, which ends with the block."""
    pid = os.fork()
    try:
        yield pid == 0
    finally:
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)  # noqa: ASYNC222 - the child ends without us


async def test_a_child_process_does_not_end_its_parents_run(
    redis_url: str, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """``check`` says so there; the parent's run goes on, and ends."""
    reads, writes = os.pipe()
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(client(redis_url))
        once = here.once("job", namespace=namespace)

        async def job(run: Run) -> None:
            async with in_a_child() as child:
                if child:
                    try:
                        run.check()
                    except LockError as error:
                        os.write(writes, type(error).__name__.encode())
            run.check()

        outcome = await once.run(job, window=1)
    assert os.read(reads, 100) == b"LockError"
    for each in (reads, writes):
        os.close(each)
    assert isinstance(outcome, Ran)
    await eventually(lambda: redis.delete(once._keys.done), 1)
