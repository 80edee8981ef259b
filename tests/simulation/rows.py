"""Counts which rows of the library's state tables are reached."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from aiodistlock.leases import process_lease
from aiodistlock.leases.states import TRANSITIONS
from aiodistlock.waiting import hand_off
from aiodistlock.waiting.cohort import Step, next_step

reached: Counter[str] = Counter()
"""By row, since the last time that somebody cleared it."""


class _Counted(dict[Any, Any]):
    def __getitem__(self, row: Any) -> Any:
        state, event = row
        reached[f"lease {state.name} {event.name}"] += 1
        return super().__getitem__(row)


def _next_step(*facts: Any) -> Any:
    step = next_step(*facts)
    reached[f"cohort {step.name}"] += 1
    return step


ROWS = frozenset(
    {f"lease {state.name} {event.name}" for state, event in TRANSITIONS}
    | {f"cohort {step.name}" for step in Step}
)


@contextmanager
def counted() -> Iterator[None]:
    """Count, from now on until the end."""
    with (
        patch.object(process_lease, "TRANSITIONS", _Counted(TRANSITIONS)),
        patch.object(hand_off, "next_step", _next_step),
    ):
        yield
