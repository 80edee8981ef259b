"""What came of many schedules together."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Any

from tests.simulation.world import Outcome

FEW_LEASES = 3
"""A schedule with fewer leases shows nothing."""


@dataclass
class Tally:
    """Sums of outcomes of one deployment."""

    deployment: str
    schedules: int = 0
    vacuous: int = 0
    """Schedules that took hardly any lock."""
    events: int = 0
    seconds: float = 0.0
    leases: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    """By kind of lock: schedules in which there was one."""
    leases_of: Counter[str] = field(default_factory=Counter)
    """By kind of lock: leases."""
    struck: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    """How often each row of the state tables was reached."""
    violations: int = 0

    def add(self, outcome: Outcome) -> None:
        """Add one."""
        self.schedules += 1
        self.vacuous += outcome.holds < FEW_LEASES
        self.events += outcome.events
        self.seconds += outcome.seconds
        self.leases += outcome.holds
        self.kinds.update(kind for kind, leases in outcome.kinds.items() if leases)
        self.leases_of += outcome.kinds
        self.struck += outcome.struck
        self.rows += outcome.rows
        self.violations += bool(outcome.violations)

    def join(self, other: dict[str, Any]) -> None:
        """Add what :meth:`told` has told of others."""
        for each in fields(self)[1:]:
            mine, theirs = getattr(self, each.name), other[each.name]
            setattr(self, each.name, mine + (Counter(theirs) if type(mine) is Counter else theirs))

    def told(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: dict(it) if type(it) is Counter else it for name, it in values.items()}

    def __str__(self) -> str:
        return (
            f"{self.deployment}: {self.schedules} schedules ({self.vacuous} vacuous), "
            f"{self.leases} leases, {self.struck.total()} faults, "
            f"{self.events} events, {self.seconds / 3600:.2f} simulated hours, "
            f"{self.violations} with violations"
        )
