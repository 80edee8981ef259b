"""``loop.close()`` without an end of the tasks: silence, as of redis-py."""

import pytest

from tests.closed_loops import KINDS, OPENING, STATES, close_loops


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("scenes", [(*KINDS, *STATES), OPENING], ids=["open", "opening"])
def test_loops_may_be_closed_with_our_tasks_in_them(
    redis_url: str, scenes: tuple[str, ...], protocol: int
) -> None:
    """Whatever was locked, and whether they are connected, connecting or between two tries."""
    close_loops(redis_url, *scenes, protocol=protocol)


@pytest.mark.parametrize("then", ["collect", "elsewhere"])
def test_what_closed_loops_left_may_be_collected_anywhere(redis_url: str, then: str) -> None:
    """In a later loop, in no loop, and in another thread's; not only at the exit."""
    close_loops(redis_url, *STATES, *KINDS, *STATES, then=then)
    close_loops(redis_url, *OPENING, *KINDS, then=then)
