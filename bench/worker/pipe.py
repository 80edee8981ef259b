"""Round trips through aiodistlock's pipe that do nothing at the server."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from aiodistlock import LockClient
from aiodistlock.connection.pipe import Pipe
from aiodistlock.core.keys import LockKeys
from aiodistlock.protocol.redis_call import RedisCall
from aiodistlock.protocol.scripts import Script
from bench.worker import channel
from bench.worker.record import Recorder
from bench.worker.spec import Spec
from bench.worker.warmup import pauses

# As little as a script of ours can do: the reply that the pipe expects.
_NOTHING = Script(b"return {4, tonumber(ARGV[1])}", args=0, keys=3)
_KEYS = LockKeys("ping", "bench:")


def _decode(reply: list[Any], _sent_at: float) -> int:
    return int(reply[0])


async def run(spec: Spec) -> None:
    """Measure as many round trips at a time as there are tasks."""
    async with LockClient.from_url(spec.url) as client:
        pipe = client._engine("bench").connection
        assert isinstance(pipe, Pipe)
        recorder = Recorder(spec.tasks)
        stopping = False

        async def work(task: int) -> None:
            while not stopping:
                began = time.perf_counter()
                call = RedisCall(_NOTHING, _KEYS, b"", _decode)
                pipe.submit(call)
                await call
                recorder.note(task, began, time.perf_counter())

        tasks = [asyncio.create_task(work(task)) for task in range(spec.tasks)]
        for pause in pauses(spec, recorder.everybody_had_a_turn):
            await asyncio.sleep(pause)
        channel.send({"ready": True})
        if await channel.receive_async() == "go":
            recorder.begin()
            await asyncio.sleep(spec.seconds)
            channel.send({**recorder.end(), "overlaps": 0})
        stopping = True
        await asyncio.gather(*tasks)
