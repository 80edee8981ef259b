"""Options of a semaphore, validated together, before any I/O."""

from __future__ import annotations

from dataclasses import dataclass

from aiodistlock.core.options import Kind, LockOptions
from aiodistlock.core.permits import MOST_PERMITS
from aiodistlock.core.validation import refuse


def _count_problem(what: str, count: object, most: int, why: str) -> str | None:
    if type(count) is int and 1 <= count <= most:
        return None
    return f"{what} must be an integer from 1 to {most}{why}, not {count!r}"


def limit_problem(limit: object) -> str | None:
    """Return what is wrong with how many permits there are, ``None`` if nothing is."""
    return _count_problem("limit", limit, MOST_PERMITS, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class PermitOptions(LockOptions):
    """
    What one lease of permits is; :class:`~aiodistlock.Semaphore` documents each option.

    :raises ValueError: naming every option that is wrong, and what it must be
    """

    limit: int = 1
    permits: int = 1
    kind: Kind = "semaphore"

    def __post_init__(self) -> None:
        problems = [limit_problem(self.limit)]
        if problems == [None]:
            problems.append(
                _count_problem("permits", self.permits, self.limit, " (there are no more)")
            )
        try:
            LockOptions.__post_init__(self)
        except ValueError as error:
            problems.append(str(error))
        refuse(problems)
