"""Growing pauses between attempts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random


@dataclass(frozen=True, slots=True)
class Backoff:
    """
    Jittered exponential backoff, as a value: it counts nothing itself.

    The pause before attempt *n* (from 0) is ``initial * factor ** n`` seconds, at
    most ``cap``, less a random share of it, up to ``jitter``.  Randomness is what
    keeps many waiters from asking in step (M. Brooker, "Exponential Backoff And
    Jitter", AWS Architecture Blog, 2015).

    :param initial: first pause, seconds
    :param factor: growth per attempt; 1 means constant pauses
    :param cap: longest pause, seconds; also bounds how long a waiter stays unaware
        that the lock became free, should every message about it have been lost
    :param jitter: share of the pause that is random, 0 (none) to 1 (all of it)
    :raises ValueError: if a value is out of its range
    """

    initial: float = 0.05
    factor: float = 2.0
    cap: float = 1.0
    jitter: float = 0.5

    def __post_init__(self) -> None:
        for field, low, high in (
            ("initial", 0.001, 3600.0),
            ("factor", 1.0, 100.0),
            ("cap", 0.001, 3600.0),
            ("jitter", 0.0, 1.0),
        ):
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise ValueError(f"backoff {field} must be a number, not {value!r}")  # noqa: TRY004
            if not low <= value <= high:
                raise ValueError(f"backoff {field} must be {low:g} to {high:g}, not {value!r}")
        if self.cap < self.initial:
            raise ValueError(f"backoff cap {self.cap!r} must not be below initial {self.initial!r}")

    def delay(self, attempt: int, rng: Random) -> float:
        """Return the pause before attempt number ``attempt`` (from 0), in seconds."""
        pause = self.cap
        # Beyond this many doublings the power would overflow, long after the cap.
        if self.factor == 1.0 or attempt * math.log(self.factor) < 50:
            pause = min(self.cap, self.initial * self.factor**attempt)
        return pause * (1.0 - self.jitter * rng.random())
