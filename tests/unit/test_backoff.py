"""Growing, jittered, capped pauses."""

from random import Random
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from aiodistlock import Backoff


class Fixed(Random):
    """Randomness that is known: always the same share."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def random(self) -> float:
        """Return the share."""
        return self.share


@st.composite
def backoffs(draw: st.DrawFn) -> Backoff:
    """Draw any backoff that is allowed."""
    initial = draw(st.floats(0.001, 3600))
    cap = draw(st.floats(0.001, 3600))
    assume(cap >= initial)
    return Backoff(initial, draw(st.floats(1, 100)), cap, draw(st.floats(0, 1)))


@given(backoffs(), st.integers(0, 10**9), st.randoms(use_true_random=False))
def test_a_pause_is_bounded(backoff: Backoff, attempt: int, rng: Random) -> None:
    """No pause is negative or longer than ``cap``, at however late an attempt."""
    pause = backoff.delay(attempt, rng)
    assert 0 <= pause <= backoff.cap
    assert pause >= backoff.initial * (1 - backoff.jitter) * (1 - 1e-9)


@given(backoffs(), st.integers(0, 2000))
def test_pauses_grow_up_to_the_cap(backoff: Backoff, attempt: int) -> None:
    """Without jitter each pause is ``factor`` times the one before, until ``cap``."""
    sure = Fixed(0.0)
    assert backoff.delay(0, sure) == backoff.initial
    one, next_ = backoff.delay(attempt, sure), backoff.delay(attempt + 1, sure)
    assert one <= next_ <= backoff.cap
    assert next_ == pytest.approx(min(backoff.cap, one * backoff.factor))


@given(backoffs(), st.integers(0, 100), st.floats(0, 1, exclude_max=True))
def test_jitter_takes_a_share_off(backoff: Backoff, attempt: int, share: float) -> None:
    """Randomness shortens a pause by at most ``jitter`` of it."""
    full = backoff.delay(attempt, Fixed(0.0))
    assert backoff.delay(attempt, Fixed(share)) == pytest.approx(
        full * (1 - backoff.jitter * share)
    )


def test_a_backoff_is_a_value() -> None:
    """It counts nothing itself: asked again it answers the same, shared or not."""
    backoff = Backoff()
    assert backoff == Backoff()
    assert hash(backoff) == hash(Backoff())
    assert [backoff.delay(n, Fixed(0.0)) for n in (3, 0, 3)] == pytest.approx([0.4, 0.05, 0.4])
    with pytest.raises(AttributeError):
        backoff.initial = 1.0  # type: ignore[misc]  # frozen: that is the test


@pytest.mark.parametrize(("patience", "cap"), [(30.0, 1.0), (0.5, 0.125), (0.05, 0.05)])
def test_several_attempts_fall_into_what_somebody_waits(patience: float, cap: float) -> None:
    """So whoever asks between two attempts is not told that there is nobody."""
    assert Backoff().within(patience) == Backoff(cap=cap)


BAD = {
    "initial": (0, -1, 0.0009, 3601, float("nan"), float("inf"), "1", None, True),
    "factor": (0.99, -2, 101, float("nan"), "2", None, True),
    "cap": (0, 3601, float("nan"), "1", None, True),
    "jitter": (-0.1, 1.1, float("nan"), "0", None, True),
}


@pytest.mark.parametrize(("field", "value"), [(f, v) for f, vs in BAD.items() for v in vs])
def test_a_bad_value_is_named(field: str, value: Any) -> None:
    """A value out of its range is a ``ValueError`` that names the field and the value."""
    with pytest.raises(ValueError, match=f"{field} .*{value!r}"):
        Backoff(**{field: value})


def test_the_cap_is_no_less_than_the_first_pause() -> None:
    """A cap below the first pause is a mistake, not a way to shorten it."""
    with pytest.raises(ValueError, match="cap"):
        Backoff(initial=2.0, cap=1.0)
