"""The state machine of a lease, every pair enumerated, and its arithmetic."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiodistlock.core.options import LockOptions
from aiodistlock.core.validity import RENEW_SHARE, deadline, drift
from aiodistlock.leases.states import TRANSITIONS, LeaseEvent, LeaseState

S, E = LeaseState, LeaseEvent
TERMINAL = (S.LOST, S.RELEASED)

# Said a second time, by section 8 of docs/design.md and not by the table.
EXPECTED = {
    E.CONFIRMED: S.HELD,
    E.UNANSWERED: S.UNCERTAIN,
    E.REFUSED: S.LOST,
    E.EXPIRED: S.LOST,
    E.GIVEN_UP: S.RELEASED,
}


@pytest.mark.parametrize(("state", "event"), list(product(S, E)))
def test_every_event_in_every_state(state: LeaseState, event: LeaseEvent) -> None:
    """A live lease follows the event; nothing leads out of a terminal state."""
    expected = state if state in TERMINAL else EXPECTED[event]
    assert TRANSITIONS[state, event] is expected


def test_the_table_is_complete() -> None:
    """There is a row for each pair of state and event, and no other."""
    assert set(TRANSITIONS) == set(product(S, E))


@given(st.floats(min_value=0.05, max_value=1e6))
def test_drift_is_a_percent_and_two_milliseconds(ttl: float) -> None:
    """Drift follows the Redlock specification and never eats up a ttl."""
    assert drift(ttl) == pytest.approx(ttl / 100 + 0.002)
    assert drift(ttl) < ttl / 10


@given(st.floats(0, 1e6), st.floats(0.05, 1e5))
def test_a_deadline_counts_from_the_request(sent_at: float, ttl: float) -> None:
    """A lease ends a drift before its ttl, counted from when the request left."""
    assert sent_at < deadline(sent_at, ttl) < sent_at + ttl
    assert deadline(sent_at, ttl) == pytest.approx(sent_at + ttl - drift(ttl))


@given(st.floats(0, 1e6), st.floats(0.05, 1e5))
def test_a_renewal_is_due_at_a_third_of_the_ttl(sent_at: float, ttl: float) -> None:
    """Renewal leaves two thirds of the ttl, and starts no later than one third."""
    due = deadline(sent_at, ttl) - LockOptions(ttl=ttl).renewed_before
    assert pytest.approx(1 / 3) == RENEW_SHARE
    assert sent_at <= due + drift(ttl)
    assert due <= sent_at + ttl / 3
    assert deadline(sent_at, ttl) - due == pytest.approx(ttl * 2 / 3)
