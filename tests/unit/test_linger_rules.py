"""When a lease may be used again: every combination of the rules."""

import itertools
from math import inf

import pytest

from aiodistlock.core.fencing import MAX_LOCAL_HANDOFFS
from aiodistlock.waiting.linger_rules import (
    DISARMED_FOR,
    HEARD_WITHIN,
    IN_A_ROW,
    WORTH,
    Arming,
    may_be_used,
)

NOW = 1000.0
TTL = 10.0

# Of each rule what just fulfils it, and what just does not.
DEADLINE = {True: NOW + TTL / 2, False: NOW + TTL / 2 - 0.001}
USED = {True: MAX_LOCAL_HANDOFFS - 1, False: MAX_LOCAL_HANDOFFS}
HEARD_AT = {True: NOW - HEARD_WITHIN + 0.001, False: NOW - HEARD_WITHIN}
UNTIL = {True: NOW + 0.001, False: NOW}


@pytest.mark.parametrize(
    ("deadline", "used", "heard", "until"), list(itertools.product([True, False], repeat=4))
)
def test_all_rules_must_be_fulfilled(deadline: bool, used: bool, heard: bool, until: bool) -> None:
    """Time left of the lease, fencing tokens left, the server not silent, and its time not over."""
    found = may_be_used(NOW, DEADLINE[deadline], TTL, USED[used], HEARD_AT[heard], UNTIL[until])
    assert found is (deadline and used and heard and until)


def test_a_name_is_armed_by_leases_in_a_row_that_nobody_else_wanted() -> None:
    """One that came too late, or before others, begins the count anew."""
    for bad in ({"now": NOW + 1.001}, {"now": NOW, "others_wait": True}):
        arming = Arming()
        for number in range(2 * IN_A_ROW):
            assert not arming.armed
            arming.released(NOW + 1)
            one = bad if number == IN_A_ROW - 1 else {"now": NOW + 1}
            arming.began(**{"others_wait": False, **one})  # type: ignore[arg-type]
        assert arming.armed


@pytest.mark.parametrize("uses", [0, WORTH - 1, WORTH])
def test_a_recall_disarms_a_name_for_a_while_unless_it_was_worth_it(uses: int) -> None:
    """The leases that begin meanwhile count, and the first one after it arms."""
    arming = Arming()
    arming.released(inf)
    for _ in range(IN_A_ROW):
        arming.began(NOW, others_wait=False)
    arming.recalled(NOW, uses)
    assert arming.armed is (uses >= WORTH)
    if not arming.armed:
        for _ in range(IN_A_ROW + 1):
            arming.began(NOW + DISARMED_FOR - 0.001, others_wait=False)
            assert not arming.armed
        arming.began(NOW + DISARMED_FOR, others_wait=False)
        assert arming.armed
