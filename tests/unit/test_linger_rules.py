"""When a lease may be used again: every combination of the rules."""

import itertools

import pytest

from aiodistlock.core.fencing import MAX_LOCAL_HANDOFFS
from aiodistlock.waiting.linger_rules import HEARD_WITHIN, may_be_used

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
