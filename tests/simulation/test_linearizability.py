"""The checker of histories: it agrees with trying all orders, and finds what is planted."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.simulation.linearizability import Does, FencedLock, Operation, operations_of, stuck_at

ONE, TWO = (1.0, 2.0), (3.0, 4.0)
"""Spans of two leases, one behind the other."""


def _lease(fence: int, span: tuple[float, float], asked_at: float = 0.0) -> list[Operation]:
    began_at, until = span
    return operations_of(fence, asked_at, began_at, [(began_at, until)], until)


def test_leases_one_behind_the_other_are_linearizable() -> None:
    """Whenever they were asked for, and whichever is named first."""
    assert stuck_at([*_lease(8, TWO), *_lease(7, ONE)]) is None
    assert stuck_at([]) is None


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (_lease(7, ONE), _lease(8, (1.5, 4.0))),
        (_lease(8, ONE), _lease(7, TWO)),
        (_lease(7, ONE), _lease(7, TWO)),
        (_lease(7, ONE), _lease(8, TWO, asked_at=2.5)[1:]),
    ],
    ids=["an overlap", "a lower fencing token", "the same one", "relied on without a grant"],
)
def test_what_a_lock_cannot_do_is_found(first: list[Operation], second: list[Operation]) -> None:
    """And one of the operations that cannot have been is named."""
    stuck = stuck_at([*first, *second])
    assert stuck in [*first, *second]


def test_a_holder_that_was_not_heard_of_any_more_may_have_lost_its_lease_at_any_time() -> None:
    """Its lease is over at any time after the last instant at which it relied on it."""
    silent = operations_of(7, 0.0, 1.0, [], 1.0)
    assert stuck_at([*silent, *_lease(8, ONE)]) is None


def _by_all_orders(operations: list[Operation]) -> bool:
    """Try all orders that agree with the times."""
    for order in permutations(operations):
        state: FencedLock | None = FencedLock()
        latest = 0.0
        for each in order:
            latest = max(latest, each.asked_at)
            if each.answered_at < latest:
                break
            state = state.after(each) if state is not None else None
            if state is None:
                break
        else:
            return True
    return False


_INSTANTS = st.integers(0, 8).map(float)
_OPERATIONS = st.builds(
    lambda one, two, does, fence: Operation(min(one, two), max(one, two), does, fence),
    _INSTANTS,
    _INSTANTS,
    st.sampled_from(Does),
    st.integers(1, 3),
)


@given(st.lists(_OPERATIONS, max_size=6))
def test_it_agrees_with_trying_all_orders(operations: list[Operation]) -> None:
    """Whatever the operations and their times."""
    assert (stuck_at(operations) is None) == _by_all_orders(operations)


@given(st.lists(st.tuples(st.floats(0.0, 5.0), st.floats(0.0, 1.0)), min_size=3, max_size=40))
def test_a_long_history_of_one_lock_is_linearizable_and_not_with_a_token_exchanged(
    leases: list[tuple[float, float]],
) -> None:
    """Many wait at once, and the order in which they asked is not that of their grants."""
    operations, now = [], 10.0
    for fence, (waited, held) in enumerate(leases, 1):
        operations += operations_of(fence, now - waited, now, [(now, now + held)], now + held)
        now += held + 0.001
    assert stuck_at(operations) is None
    operations = [
        each._replace(fence={1: len(leases), len(leases): 1}.get(each.fence, each.fence))
        for each in operations
    ]
    assert stuck_at(operations) is not None
