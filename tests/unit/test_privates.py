"""Private attributes of other libraries: each is used in one place, which can do without."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from aiodistlock.core.background import abort, start_task

PACKAGE = Path(__file__).parents[2] / "aiodistlock"

# What is used of asyncio, anyio and redis-py, and where; redis-py's ``_writer`` is on its
# way to one place.
USED_IN = {
    "_callbacks": {"protocol/wake.py"},
    "_log_destroy_pending": {"core/background.py"},
    "_call_connection_lost": {"core/background.py"},
    "_ssl_protocol": {"core/background.py"},
    "_task_states": {"leases/shields.py"},
    "_parent_scope": {"leases/shields.py"},
    "_fut_waiter": {"leases/await_chain.py"},
    "_must_cancel": {"leases/await_chain.py"},
    "_force_master_ip": {"deployments/sentinel/sentinels.py"},
    "_ready": {"testing/clock.py"},
}


@pytest.mark.parametrize("name", USED_IN)
def test_a_private_is_used_in_one_place(name: str) -> None:
    """Where it goes away, one module has to learn of it."""
    word = re.compile(rf"(?<!self)\.{name}\b|\"{name}\"")
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if word.search(path.read_text())
    }
    assert found == USED_IN[name]


async def test_a_task_that_cannot_be_left_unheard_runs_all_the_same() -> None:
    """Without asyncio's ``_log_destroy_pending`` the task is one like all others."""

    class Bare:
        __slots__ = ("task",)

        def __init__(self, coroutine: Any) -> None:
            self.task = asyncio.Task(coroutine)

        def __getattr__(self, name: str) -> Any:
            if name == "_log_destroy_pending":
                raise AttributeError(name)
            return getattr(self.task, name)

    class Weak(Bare):
        pass

    loop = asyncio.get_running_loop()
    loop.set_task_factory(lambda _loop, coroutine, **_options: Weak(coroutine))  # type: ignore[arg-type]  # no task of asyncio's
    task: Any = start_task(asyncio.sleep(0, "done"), "it")
    loop.set_task_factory(None)
    assert await task.task == "done"


def test_a_transport_of_a_closed_loop_may_be_of_any_kind() -> None:
    """Without asyncio's privates it is aborted as far as that goes, and nothing is raised."""

    class Theirs(asyncio.WriteTransport):
        def abort(self) -> None:
            raise RuntimeError("Event loop is closed")

    loop = asyncio.new_event_loop()
    loop.close()
    abort(Theirs(), loop)
