"""Durations as users may write them."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TypeVar

Duration = float | timedelta
"""Seconds, or a ``datetime.timedelta``."""

T = TypeVar("T")

_UNITS = ((86_400, "day"), (3_600, "h"), (60, "min"), (1, "s"))


def seconds(duration: T | timedelta) -> T | float:
    """Return a duration in seconds; what is no ``timedelta`` as it is."""
    return duration.total_seconds() if isinstance(duration, timedelta) else duration


_WRITTEN = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|h|d)?")
_SECONDS_IN = {"s": 1, "min": 60, "h": 3_600, "d": 86_400}


def read_duration(text: str, what: str) -> float:
    """
    Read a duration as people write it on a command line: ``90``, ``30min``, ``12h``, ``1d``.

    :raises ValueError: if it is none
    """
    found = _WRITTEN.fullmatch(text.strip())
    if found is None:
        raise ValueError(
            f"{what} must be a number of seconds, or with a unit (s, min, h, d) such as 1d, "
            f"not {text!r}"
        )
    return float(found[1]) * _SECONDS_IN[found[2] or "s"]


def in_words(duration: float) -> str:
    """Return seconds as people say them: ``9.3 s``, ``3 min 20 s``, ``3 days 4 h``."""
    if duration < 59.95:
        return f"{duration:.1f} s"
    left = round(duration)
    first = next(n for n, (size, _) in enumerate(_UNITS) if left >= size)
    said = []
    for size, unit in _UNITS[first : first + 2]:
        count, left = divmod(left, size)
        if count:
            said.append(f"{count} {unit}{'s' if unit == 'day' and count > 1 else ''}")
    return " ".join(said)
