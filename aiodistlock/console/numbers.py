"""Numbers as they are told to people."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence


def counted(number: int, noun: str) -> str:
    """Write a number with its noun: ``"1 update"``, ``"1,250 updates"``."""
    plural = re.sub(r"(?<![aeiou])y$", "ie", noun) + "s"
    return f"{number:,} {noun if number == 1 else plural}"


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which a share of the values lies, by the nearest rank."""
    ranked = sorted(values)
    return ranked[min(len(ranked), max(1, math.ceil(share * len(ranked)))) - 1]
