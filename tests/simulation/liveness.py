"""P3, by the time that a lock stays free while somebody who lives wants it.

A dead holder blocks others for its ttl and a second, a failover until it is known who is the
primary, and two seconds. This is judged where no fault keeps anybody who lives from asking, and
not on a quorum, which has no queue.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.plan import Plan
    from tests.simulation.worker import Worker

DEAD_FOR = 1.0 + 0.01
"""Seconds after the end of a dead holder's lease within which somebody else has it: a request
takes its time, and no two clocks run alike."""

FAILS_OVER_WITHIN = 2.0
"""Seconds after it is known who is the primary, likewise."""

HINDERS_NOBODY = frozenset(("kill", "crash", "close", "cancel", "forge", "failover", "move"))
"""Faults that keep nobody who lives from asking, once a primary is there."""


class Wait:
    """
    Whoever wants one name, and since when it can be had.

    :ivar wanted: tasks, and since when they want it
    """

    def __init__(self) -> None:
        self.wanted: dict[Worker, float] = {}
        self._free_at = 0.0
        self._free_within = DEAD_FOR

    def held(self, until: float = math.inf, *, told: bool = True) -> None:
        """
        Take in until when it is held at most, if nobody prolongs that.

        :param told: whether who waits is told of its end; else they go by what they knew before
        """
        self._free_at = until if told else max(until, self._free_at)

    def failed_over(self, free_at: float) -> None:
        """Take in that there is a primary, and when it is free there."""
        self._free_at, self._free_within = free_at, FAILS_OVER_WITHIN

    def late(self, now: float) -> float:
        """Return by how much a grant now is late, seconds; not above 0: it is in time."""
        within, self._free_within = self._free_within, DEAD_FOR
        living: Iterable[float] = (
            since for each, since in self.wanted.items() if not each.process.dead
        )
        return now - max(self._free_at, min(living, default=math.inf)) - within


def is_judged(plan: Plan) -> bool:
    """Tell whether nothing in a schedule keeps anybody who lives from asking."""
    quick = plan.is_quick and not plan.busy
    once = "once" in plan.kinds
    return quick and not once and HINDERS_NOBODY.issuperset(plan.faults) and not plan.is_quorum
