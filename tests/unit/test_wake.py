"""Running woken tasks at the end of a read, in asyncio's stead."""

import asyncio
import contextvars
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

import pytest
import uvloop

from aiodistlock.protocol.wake import read_begins, read_ends, settle

context = contextvars.ContextVar("context", default="outside")


def _read(*deliver: Callable[[], object]) -> None:
    """Read once: what is delivered arrived together."""
    loop = asyncio.get_running_loop()
    woken = read_begins(loop)
    try:
        for each in deliver:
            each()
    finally:
        read_ends(loop, woken)


async def _read_in_the_loop(steps: list[str], *deliver: Callable[[], object]) -> None:
    """Read as a transport does: called by the loop, within no task."""

    def read() -> None:
        _read(*deliver)
        steps.append("read")

    asyncio.get_running_loop().call_soon(read)
    await asyncio.sleep(0)


class Visitor:
    """A task that waits for a future, and what became of it."""

    def __init__(self, steps: list[str], name: str, then: Callable[[], object] = int) -> None:
        self.future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.steps = steps
        self.name = name
        self.then = then
        self.task = asyncio.create_task(self.run())

    async def run(self) -> None:
        """Wait."""
        context.set(self.name)
        try:
            self.steps.append(f"{self.name} got {await self.future}")
        except asyncio.CancelledError:
            done = self.future.done() and not self.future.cancelled()
            self.steps.append(f"{self.name} cancelled, its answer {'there' if done else 'not'}")
            raise
        assert context.get() == self.name
        self.then()

    def settle(self) -> None:
        """Deliver the answer."""
        settle(self.future, "it")
        self.steps.append(f"{self.name} settled")


async def test_tasks_run_when_all_that_arrived_is_taken_in() -> None:
    """The read runs what it woke, in order, each in its context, behind the last reply."""
    steps: list[str] = []
    a, b = Visitor(steps, "a"), Visitor(steps, "b")
    await asyncio.sleep(0)
    await _read_in_the_loop(steps, a.settle, b.settle)
    assert steps == ["a settled", "b settled", "a got it", "b got it", "read"]
    await asyncio.gather(a.task, b.task)


async def test_whoever_is_cancelled_by_one_woken_before_it_has_its_answer() -> None:
    """As in asyncio: the future is done, so that what was granted can be given back."""
    steps: list[str] = []
    a = Visitor(steps, "a", then=lambda: b.task.cancel())
    b = Visitor(steps, "b")
    await asyncio.sleep(0)
    await _read_in_the_loop(steps, a.settle, b.settle)
    assert steps[2:] == ["a got it", "b cancelled, its answer there", "read"]
    await asyncio.wait([a.task, b.task])


async def test_without_a_read_a_task_runs_in_its_own_turn() -> None:
    """A hand-over in memory, from within a task, runs no task within that one."""
    steps: list[str] = []
    a = Visitor(steps, "a")
    await asyncio.sleep(0)
    a.settle()
    assert steps == ["a settled"]
    await a.task
    assert steps == ["a settled", "a got it"]


async def test_a_read_within_a_task_runs_no_other_task_in_it() -> None:
    """A transport may deliver at once to whoever asks it to; tasks do not nest."""
    steps: list[str] = []
    a = Visitor(steps, "a")
    await asyncio.sleep(0)
    _read(a.settle)
    assert steps == ["a settled"]
    await a.task


async def test_a_task_that_was_woken_hands_over_as_asyncio_does() -> None:
    """What a woken task settles in turn is no part of the read."""
    steps: list[str] = []
    b = Visitor(steps, "b")
    a = Visitor(steps, "a", then=b.settle)
    await asyncio.sleep(0)
    await _read_in_the_loop(steps, a.settle)
    assert steps[:4] == ["a settled", "a got it", "b settled", "read"]
    await asyncio.gather(a.task, b.task)


async def test_a_future_that_several_wait_for_wakes_them_all() -> None:
    """Only the usual case is shortened: one task, and nobody else who listens."""
    steps: list[str] = []
    a = Visitor(steps, "a")
    await asyncio.sleep(0)
    a.future.add_done_callback(lambda _: steps.append("callback"))
    await _read_in_the_loop(steps, a.settle)
    await a.task
    assert sorted(steps) == ["a got it", "a settled", "callback", "read"]


async def test_threads_with_loops_of_their_own_do_not_mix() -> None:
    """A future that is settled in one thread's loop while another's reads wakes its own."""
    steps: list[str] = []

    async def elsewhere() -> None:
        other = Visitor(steps, "other")
        await asyncio.sleep(0)
        other.settle()
        await other.task

    def in_a_thread() -> None:
        thread = threading.Thread(target=lambda: asyncio.run(elsewhere()))
        thread.start()
        thread.join(5)

    a = Visitor(steps, "a")
    await asyncio.sleep(0)
    await _read_in_the_loop(steps, a.settle, in_a_thread)
    assert steps == ["a settled", "other settled", "other got it", "a got it", "read"]
    await a.task


async def _who_runs_what_was_woken(future: asyncio.Future[str]) -> str:
    """Wait for a future that a read settles; tell who ran the task then."""
    steps: list[str] = []

    async def wait() -> None:
        await future
        steps.append("task")

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    await _read_in_the_loop(steps, lambda: settle(future, "it"))
    await task
    return "the read" if steps == ["task", "read"] else "asyncio"


def _new_future() -> asyncio.Future[str]:
    return asyncio.get_running_loop().create_future()


async def _ask_in_this_loop() -> str:
    return await _who_runs_what_was_woken(_new_future())


async def test_in_debug_mode_asyncio_runs_what_was_woken() -> None:
    """Switched on while the loop runs, and off: slow code is told under its own name."""
    loop = asyncio.get_running_loop()
    told = []
    for debug in (False, True, False):
        loop.set_debug(debug)
        told.append(await _who_runs_what_was_woken(_new_future()))
    assert told == ["the read", "asyncio", "the read"]


async def test_a_loop_that_is_patched_while_it_runs_is_not_plain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As nest_asyncio does: the same class, and tasks that run within tasks."""

    def run_forever(self: asyncio.AbstractEventLoop) -> None:
        """Run within a task, say."""

    kind = type(asyncio.get_running_loop())
    monkeypatch.setattr(kind, "run_forever", run_forever, raising=False)
    assert await _who_runs_what_was_woken(_new_future()) == "asyncio"
    monkeypatch.undo()
    assert await _who_runs_what_was_woken(_new_future()) == "the read"


def test_a_loop_of_another_class_runs_what_was_woken() -> None:
    """Whoever wrote a loop of their own knows what it does with tasks, and we do not."""

    class Theirs(asyncio.SelectorEventLoop):
        pass

    for make, who in ((Theirs, "asyncio"), (asyncio.SelectorEventLoop, "the read")):
        with asyncio.Runner(loop_factory=make) as runner:
            assert runner.run(_ask_in_this_loop()) == who


def test_uvloop_has_the_read_run_what_was_woken() -> None:
    """It runs tasks as asyncio's own loop does, and gains as much."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(_ask_in_this_loop()) == "the read"


async def test_a_future_that_hides_who_waits_wakes_as_asyncio_does() -> None:
    """Where asyncio keeps its callbacks elsewhere, only time is lost."""

    class Hides(asyncio.Future[str]):
        @property
        def _callbacks(self) -> NoReturn:
            raise AttributeError("_callbacks")

    assert await _who_runs_what_was_woken(Hides()) == "asyncio"


def interrupted() -> list[str]:
    """Interrupt a read in a woken task; return what happened."""
    steps: list[str] = []

    def interrupt() -> None:
        raise KeyboardInterrupt

    async def main() -> None:
        a, b = Visitor(steps, "a", then=interrupt), Visitor(steps, "b")
        await asyncio.sleep(0)
        await _read_in_the_loop(steps, a.settle, b.settle)
        await asyncio.wait([a.task, b.task])

    # Without a runner, which would take the interrupt for one of its main task.
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(main())
    except KeyboardInterrupt:
        steps.append("interrupted")
        loop.run_until_complete(asyncio.sleep(0))
    return steps


def test_an_interrupt_in_a_woken_task_ends_the_loop_before_the_others_run() -> None:
    """KeyboardInterrupt goes where it would go from a callback, and no task is forgotten."""
    # In a process of its own: an interrupt that leaves a task upsets CPython 3.11's count of
    # its recursion, and then pytest cannot compile.
    code = "from tests.unit.test_wake import interrupted; print(*interrupted(), sep=', ')"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)
    told = ran.stdout.decode().split(", ")
    assert told[2:] == ["a got it", "read", "interrupted", "b got it\n"], ran.stderr.decode()
