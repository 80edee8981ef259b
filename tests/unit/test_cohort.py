"""What follows a local release: the decision table, enumerated."""

from itertools import product

import pytest

from aiodistlock.waiting.cohort import Step, next_step

NOW = 100.0
TTL = 10.0

HANDOFFS = {"below the bound": 3, "at the bound": 4, "above the bound": 5}
SPANS = {"before its end": NOW + 0.01, "at its end": NOW, "after its end": NOW - 0.01}
LEFT = {"all": TTL, "half": TTL / 2, "less than half": TTL / 2 - 0.01, "nothing": -1.0}


def expected(waiting: bool, handoffs: str, span: str, left: str) -> Step:
    """Say the rules of docs/design.md in another way than the code does."""
    if not waiting:
        return Step.RELEASE
    if handoffs != "below the bound" or span != "before its end":
        return Step.PASS_ON
    return Step.HAND_OVER if left in ("all", "half") else Step.RENEW


@pytest.mark.parametrize(
    ("waiting", "handoffs", "span", "left"), list(product((True, False), HANDOFFS, SPANS, LEFT))
)
def test_the_step_after_a_release(waiting: bool, handoffs: str, span: str, left: str) -> None:
    """Nobody waits: release; a bound is reached: pass on; too little left: renew first."""
    step = next_step(
        waiting=waiting,
        handoffs=HANDOFFS[handoffs],
        local_handoffs=4,
        now=NOW,
        span_ends_at=SPANS[span],
        deadline=NOW + LEFT[left],
        ttl=TTL,
    )
    assert step is expected(waiting, handoffs, span, left)


def test_a_switched_off_cohort_passes_on_always() -> None:
    """With ``local_handoffs=0`` no hand-off is ever made in memory."""
    step = next_step(
        waiting=True,
        handoffs=0,
        local_handoffs=0,
        now=NOW,
        span_ends_at=NOW + 1,
        deadline=NOW + TTL,
        ttl=TTL,
    )
    assert step is Step.PASS_ON
