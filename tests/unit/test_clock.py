"""The local clock, and the server's mapped onto it."""

import time

from hypothesis import given
from hypothesis import strategies as st

from aiodistlock.core.clock import ServerClock, local_clock

instants = st.integers(0, 10**15)  # µs
delays = st.integers(0, 10**8)  # µs
steps = st.integers(-(10**12), 10**12)  # µs that the server's clock is set by


@given(instants, steps, delays, delays, delays)
def test_a_mapped_instant_is_never_later_than_the_truth(
    sent_us: int, offset_us: int, there_us: int, later_us: int, back_us: int
) -> None:
    """However slow the way to the server, the mapping errs to the early side only."""
    clock = ServerClock()
    # The server read its clock when the request had been on its way for a while.
    clock.observe(sent_us + there_us + offset_us, sent_us / 1e6)
    event_us = sent_us + there_us + later_us
    mapped = clock.earliest(event_us + offset_us)
    assert mapped is not None
    # A float of seconds since boot resolves microseconds for 200 years.
    assert mapped <= event_us / 1e6 + 2e-6 * (1 + abs(offset_us) / 1e9 + sent_us / 1e9)
    assert mapped >= (event_us - there_us) / 1e6 - 2e-6 * (1 + (abs(offset_us) + sent_us) / 1e9)


def test_nothing_is_known_before_an_exchange() -> None:
    """Without an exchange there is no mapping, rather than a guess."""
    assert ServerClock().earliest(1_000_000) is None


def test_only_the_last_exchange_counts() -> None:
    """After a step of the server's clock the old offset is forgotten."""
    clock = ServerClock()
    clock.observe(5_000_000, 100.0)
    clock.observe(1_000_000, 200.0)
    assert clock.earliest(1_500_000) == 200.5


def test_the_local_clock_runs_while_the_machine_sleeps() -> None:
    """The clock is CLOCK_BOOTTIME where there is one, and does not go back."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        assert abs(local_clock() - time.clock_gettime(time.CLOCK_BOOTTIME)) < 1.0
    readings = [local_clock() for _ in range(100)]
    assert readings == sorted(readings)
