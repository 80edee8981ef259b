"""Durations as users may write them."""

from __future__ import annotations

from datetime import timedelta
from typing import TypeVar

Duration = float | timedelta
"""Seconds, or a ``datetime.timedelta``."""

T = TypeVar("T")

_UNITS = ((86_400, "day"), (3_600, "h"), (60, "min"), (1, "s"))


def seconds(duration: T | timedelta) -> T | float:
    """Return a duration in seconds; what is no ``timedelta`` as it is."""
    return duration.total_seconds() if isinstance(duration, timedelta) else duration


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
