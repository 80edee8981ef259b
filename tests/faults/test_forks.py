"""A child process of a holder: what it inherits is not its own."""

import os
import sys

import pytest
import redis.asyncio as redis_asyncio

from aiodistlock import AsyncLock, LockClient
from aiodistlock.connection.pipe import Pipe


async def _fork_inside(  # noqa: PLR0917  # a scene and its stage
    lock: AsyncLock, style: str, how: str, pipe: Pipe, redis: redis_asyncio.Redis, key: str
) -> None:
    """Fork in the block; the child leaves it as told, and the parent looks after itself."""
    parent = os.getpid()
    try:
        async with lock if style == "async with" else lock.hold() as lease:
            child = os.fork()
            if child == 0:
                if how == "exit":
                    sys.exit(0)
                if how == "exception":
                    raise ValueError("the child fails")
            else:
                os.waitpid(child, 0)  # noqa: ASYNC222  # it ends at once
                assert lease.is_held
                assert await redis.get(key) == lease._process_lease.value
    finally:
        if os.getpid() != parent:
            # What the copied loop would still do, should anybody run it; then the end,
            # before the child closes the loop's selector, which is the parent's, too.
            pipe._flush()
            os._exit(0)


@pytest.mark.parametrize("how", ["exit", "exception", "return"])
@pytest.mark.parametrize("style", ["async with", "hold"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
async def test_a_child_that_leaves_the_block_does_not_release_the_parents_lease(
    redis_url: str, redis: redis_asyncio.Redis, namespace: str, style: str, how: str
) -> None:
    """However the child gets out of the block, the key and the lease stay the parent's."""
    async with LockClient.from_url(redis_url) as locks:
        lock = locks.lock("n", namespace=namespace)
        assert not await lock.locked()
        pipe = locks._engine("n").connection
        assert isinstance(pipe, Pipe)
        await _fork_inside(lock, style, how, pipe, redis, f"{namespace}n")
