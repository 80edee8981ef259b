"""Fencing tokens of local hand-offs."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

import aiodistlock
from aiodistlock.core.fencing import MAX_LOCAL_HANDOFFS, covered, local_fence, report

granted = st.integers(1, 2**53 - MAX_LOCAL_HANDOFFS)
handoffs = st.integers(0, MAX_LOCAL_HANDOFFS)


@given(granted, handoffs)
def test_each_hand_off_has_a_higher_token(fence: int, count: int) -> None:
    """The token grows with each hand-off, from the granted one, and fits into 2**53."""
    assert local_fence(fence, 0) == fence
    assert fence + count == local_fence(fence, count) <= 2**53


@given(granted, handoffs)
def test_the_report_covers_all_that_was_used(fence: int, count: int) -> None:
    """What is reported is the highest token used; nothing where that is the granted one."""
    assert report(fence, count) == (local_fence(fence, count) if count else 0)


@given(granted, st.integers(-(2**53), 10_000))
def test_hand_offs_are_covered_unless_the_clock_is_behind(fence: int, ahead: int) -> None:
    """By more than the gap: `issue_fence` marks the counter there, and nowhere else."""
    assert covered(fence, fence - ahead) == (ahead <= MAX_LOCAL_HANDOFFS + 1)


def test_the_servers_gap_covers_a_dead_holder() -> None:
    """The scripts leave as large a gap as a holder may use up without a report."""
    prelude = Path(aiodistlock.__file__).parent / "protocol" / "lua" / "prelude.lua"
    assert f"local GAP = {MAX_LOCAL_HANDOFFS}\n" in prelude.read_text()
