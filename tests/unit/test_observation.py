"""What a process asks of who leads."""

import asyncio
from random import Random
from typing import Any, cast

import pytest

from aiodistlock.core.keys import LockKeys
from aiodistlock.protocol.answers import Led
from aiodistlock.protocol.call import Call
from aiodistlock.protocol.store import Store
from aiodistlock.waiting.observation import LOOK_EVERY, Observation

NOBODY = Led(None, None, 0, None)


class Bench:
    """A store that takes notes, and timers that run when the test says so."""

    def __init__(self) -> None:
        self.asked: list[Call[Any]] = []
        self.pauses: list[float] = []
        keys = LockKeys("scheduler", "lock:")
        self.observation = Observation(keys, cast(Store, self), {}, cast(Any, self), Random(1))

    def leader(self, _keys: LockKeys) -> Call[Any]:
        """Take note of a question; the test answers it."""
        self.asked.append(Call())
        return self.asked[-1]

    def hear_leaders(self, _keys: LockKeys) -> bool:
        """Have announcements be heard."""
        return True

    def call_later(self, delay: float, *_: Any) -> asyncio.Handle:
        """Take note of a pause."""
        self.pauses.append(delay)
        return asyncio.get_running_loop().call_later(3600.0, lambda: None)


@pytest.fixture
async def bench() -> Any:
    """One that is observed."""
    bench = Bench()
    bench.observation.enter()
    yield bench
    bench.observation.leave()


async def test_what_is_announced_while_a_question_is_under_way_is_asked_behind_it(
    bench: Bench,
) -> None:
    """Its answer may be from before; however many were announced, once."""
    bench.observation.ask()
    bench.observation.ask()
    (first,) = bench.asked
    first.finish(NOBODY)
    _, again = bench.asked
    again.finish(NOBODY)
    assert len(bench.asked) == 2


@pytest.mark.parametrize(
    ("remaining", "pause"), [(None, LOOK_EVERY), (0.4, 0.4), (3_600.0, LOOK_EVERY)]
)
async def test_it_looks_when_the_lease_it_knows_of_must_be_over(
    bench: Bench, remaining: float | None, pause: float
) -> None:
    """A leader that dies announces nothing; and now and then while nobody leads."""
    bench.asked[0].finish(NOBODY._replace(remaining=remaining))
    assert pause < bench.pauses[-1] <= pause + 0.05
