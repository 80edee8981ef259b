"""Growing pauses between attempts."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from aiodistlock.core.durations import Duration, seconds
from aiodistlock.core.validation import refuse

if TYPE_CHECKING:
    from random import Random


@dataclass(frozen=True, slots=True, init=False)
class Backoff:
    """
    Jittered exponential backoff, as a value: it counts nothing itself.

    The pause before attempt *n* (from 0) is ``initial * factor ** n`` seconds, at
    most ``cap``, less a random share of it, up to ``jitter``.  Randomness is what
    keeps many waiters from asking in step (M. Brooker, "Exponential Backoff And
    Jitter", AWS Architecture Blog, 2015).

    :param initial: first pause, seconds or a ``timedelta``
    :param factor: growth per attempt; 1 means constant pauses
    :param cap: longest pause, likewise; also bounds how long the first few waiters stay
        unaware that the lock became free, should every message about it have been lost
    :param jitter: share of the pause that is random, 0 (none) to 1 (all of it)
    :raises ValueError: naming every value that is out of its range
    """

    initial: float
    factor: float
    cap: float
    jitter: float

    def __init__(
        self,
        initial: Duration = 0.05,
        factor: float = 2.0,
        cap: Duration = 1.0,
        jitter: float = 0.5,
    ) -> None:
        problems = [
            _problem("initial", initial := seconds(initial), 0.001, 3600.0),
            _problem("factor", factor, 1.0, 100.0),
            _problem("cap", cap := seconds(cap), 0.001, 3600.0),
            _problem("jitter", jitter, 0.0, 1.0),
        ]
        if not any(problems) and cap < initial:
            problems.append(f"backoff cap {cap!r} must not be below initial {initial!r}")
        refuse(problems)
        values = {"initial": initial, "factor": factor, "cap": cap, "jitter": jitter}
        for field, value in values.items():
            object.__setattr__(self, field, value)

    def delay(self, attempt: int, rng: Random) -> float:
        """Return the pause before attempt number ``attempt`` (from 0), in seconds."""
        pause = self.cap
        # Beyond this many doublings the power would overflow, long after the cap.
        if self.factor == 1.0 or attempt * math.log(self.factor) < 50:
            pause = min(self.cap, self.initial * self.factor**attempt)
        return pause * (1.0 - self.jitter * rng.random())

    def within(self, patience: float) -> Backoff:
        """Return the same, but that several attempts fall into any ``patience`` seconds."""
        return replace(self, cap=max(self.initial, min(self.cap, patience / 4)))


def _problem(field: str, value: object, low: float, high: float) -> str | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return f"backoff {field} must be a number, not {value!r}"
    if not low <= value <= high:
        return f"backoff {field} must be {low:g} to {high:g}, not {value!r}"
    return None
