"""Event loops that are not plain: in debug mode, patched, or somebody's own."""

import asyncio
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from redis.asyncio import Redis

from aiodistlock import AsyncLock

ROOT = Path(__file__).parents[2]


async def test_in_debug_mode_slow_code_is_told_under_the_name_of_its_task(
    redis_url: str, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Asyncio warns of the task that was slow, not of the connection that woke it."""
    loop = asyncio.get_running_loop()
    loop.set_debug(True)
    loop.slow_callback_duration = 0.2

    async def slow() -> None:
        async with Redis.from_url(redis_url) as redis:
            for _ in range(2):
                async with AsyncLock(redis, "n", namespace=namespace):
                    time.sleep(0.3)  # what is to be told

    with caplog.at_level(logging.WARNING, "asyncio"):
        await asyncio.create_task(slow(), name="the slow one")
    loop.set_debug(False)
    told = [each.getMessage() for each in caplog.records if each.name == "asyncio"]
    assert len(told) >= 2
    # What is slow on a busy machine may be told as well, but not for that long.
    for message in told:
        if float(message.rpartition("took ")[2].partition(" ")[0]) >= 0.3:
            assert "the slow one" in message


NESTED = """
import asyncio, sys
import nest_asyncio
from redis.asyncio import Redis
from aiodistlock import AsyncLock

url, namespace, when = sys.argv[1:]

async def use(redis, number):
    loop = asyncio.get_running_loop()

    async def inner():
        async with AsyncLock(redis, f"inner:{number}", namespace=namespace):
            await asyncio.sleep(0)

    for _ in range(3):
        async with AsyncLock(redis, f"outer:{number % 2}", namespace=namespace):
            loop.run_until_complete(inner())

async def main():
    async with Redis.from_url(url) as redis:
        if when == "late":
            async with AsyncLock(redis, "first", namespace=namespace):
                nest_asyncio.apply()
        await asyncio.gather(*(use(redis, number) for number in range(6)))

loop = asyncio.new_event_loop()
asyncio.set_event_loop(loop)
if when == "early":
    nest_asyncio.apply(loop)
loop.run_until_complete(asyncio.wait_for(main(), 20))
print("done")
"""


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="nest_asyncio itself fails there")
@pytest.mark.parametrize("when", ["early", "late"])
def test_nest_asyncio_may_run_a_lock_within_a_block_of_another(
    redis_url: str, namespace: str, when: str
) -> None:
    """The loop runs within a task, as in a notebook: no task is run within another by us."""
    ran = subprocess.run(
        [sys.executable, "-c", NESTED, redis_url, namespace, when],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert (ran.stdout, ran.stderr) == ("done\n", "")
