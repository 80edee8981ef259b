"""Options of what is done once a window, validated together, before any I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from aiodistlock.core.durations import seconds
from aiodistlock.core.fencing import BEYOND
from aiodistlock.core.options import MAX_SECONDS, MIN_TTL, duration_problem, to_ms
from aiodistlock.core.validation import refuse

REMEMBERED = 7 * 86_400.0
"""How long a mark stays by default, seconds; longer where a window is half as long or more."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def instant_of(us: int) -> datetime:
    """Return an instant of the server's clock, or a window, as a ``datetime`` in UTC."""
    return _EPOCH + us * _MICROSECOND


def checked_window(window: object) -> int:
    """
    Return a caller's scheduled instant in µs.

    :raises ValueError: if it is no instant, or a ``datetime`` without a time zone
    """
    if isinstance(window, datetime):
        if window.tzinfo is None:
            raise ValueError(
                f"window must be a datetime with a time zone, not {window!r}: hosts may be in "
                "several; add tzinfo=UTC, say"
            )
        us = (window - _EPOCH) // _MICROSECOND
    elif isinstance(window, (int, float)) and not isinstance(window, bool) and window == window:  # noqa: PLR0124  # nan
        us = round(min(max(window, -1.0), float(BEYOND)) * 1_000_000)
    else:
        raise ValueError(
            "window must be the instant for which the run is scheduled, as a datetime with a "
            f"time zone or in seconds since 1970, not {window!r}"
        )
    if not 0 <= us < BEYOND:
        raise ValueError(f"window must be an instant from 1970 to 2255, not {window!r}")
    return us


@dataclass(frozen=True, slots=True, kw_only=True)
class OnceOptions:
    """
    What :class:`~aiodistlock.Once` does; it documents each option.

    :raises ValueError: naming every option that is wrong, and what it must be
    """

    every: float | None = None
    at_least: float | None = None
    on_crash: Literal["retry", "skip"] = "retry"
    remember: float | None = None

    def __post_init__(self) -> None:
        problems = [
            duration_problem("every", self.every, MIN_TTL, MAX_SECONDS, optional=True),
            duration_problem("at_least", self.at_least, MIN_TTL, MAX_SECONDS, optional=True),
            duration_problem("remember", self.remember, MIN_TTL, MAX_SECONDS, optional=True),
        ]
        if self.on_crash not in ("retry", "skip"):
            problems.append(f"on_crash must be 'retry' or 'skip', not {self.on_crash!r}")
        if self.at_least is not None:
            problems += self._against_windows()
        refuse(problems)
        for each in ("every", "at_least", "remember"):
            object.__setattr__(self, each, seconds(getattr(self, each)))
        if self.every is not None and self.remember is not None and self.remember < self.every:
            raise ValueError(
                f"remember must be at least every={self.every:g} s, not {self.remember:g} s: the "
                "mark of a window would be gone within it"
            )

    def _against_windows(self) -> list[str]:
        problems = []
        if self.every is not None:
            problems.append(
                "every and at_least exclude each other: a window is done once however short it is"
            )
        if self.on_crash == "skip":
            problems.append(
                "on_crash='skip' needs windows (every=, or window= per call): with at_least= a "
                "name is free again when a crashed holder's ttl is over"
            )
        if self.remember is not None:
            problems.append("remember is for windows; with at_least= nothing is kept for longer")
        return problems

    @property
    def every_us(self) -> int:
        """Length of a window, 0: none is told by the clock."""
        return 0 if self.every is None else round(self.every * 1_000_000)

    @property
    def at_least_us(self) -> int:
        """For how long the name is kept from the start of a run on, 0: until its end."""
        return 0 if self.at_least is None else round(self.at_least * 1_000_000)

    @property
    def mark_ttl_ms(self) -> int:
        """How long a mark stays."""
        if self.at_least is not None:
            return to_ms(self.at_least)
        if self.remember is not None:
            return to_ms(self.remember)
        return to_ms(max(REMEMBERED, 2 * (self.every or 0.0)))
