"""Tasks of ours in a loop that was closed with them in it."""

import asyncio

from aiodistlock.core.background import end_tasks_of, start_task


def test_a_task_that_is_being_ended_is_left_to_who_does_that() -> None:
    """What it drops may have the collector end all tasks of its loop, in the middle of it."""
    loop = asyncio.new_event_loop()
    ended = []

    async def stay(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            end_tasks_of(loop)
            ended.append(name)

    async def begin() -> list[asyncio.Task[None]]:
        tasks = [start_task(stay(name), name) for name in ("one", "two")]
        await asyncio.sleep(0)
        return tasks

    tasks = loop.run_until_complete(begin())
    loop.close()
    end_tasks_of(loop)
    assert sorted(ended) == ["one", "two"]
    assert len(tasks) == 2, "they are kept until here"
