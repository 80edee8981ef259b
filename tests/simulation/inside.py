"""What must hold within a process between two turns of its loop, by docs/design.md.

An attempt is on behalf of somebody (section 2); whoever leaves last abandons it.  The watchdog
looks after what goes on: neither after a lease that is over, which it would revive (rule 3 of
section 8), nor after one that is being passed on (section 9).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from aiodistlock import LockClient

SOON = 3
"""Turns within which a task that was cancelled has run, and taken itself back."""

SLACK = 0.01
"""Seconds by which a timer may be late, besides what its process stands still."""


class Inside:
    """Looks into clients."""

    def __init__(self) -> None:
        self._for_nobody: dict[bytes, int] = {}
        """For how many looks attempts have been on behalf of nobody."""

    def look(self, client: LockClient, *, was_suspended: bool) -> Iterator[str]:
        """
        Tell what must not be.

        :param was_suspended: whether its timers have stood still, and come late
        """
        for engine in client._engines.values():
            # An attempt at permits stands there under all its tokens.
            for attempt in dict.fromkeys(engine.attempts.values()):
                if attempt.contender.waiters.first() is not None:
                    self._for_nobody.pop(attempt.token, None)
                    continue
                looks = self._for_nobody.get(attempt.token, 0) + 1
                self._for_nobody[attempt.token] = looks
                if looks > SOON:
                    yield f"{attempt.token!r} is asked for, and nobody wants it"
            latest = engine.clock() - SLACK
            for lease, until in engine.lingering._leases.items():
                if until < latest and not was_suspended:
                    yield f"{lease.value!r} lingers for too long"
            for lease in engine.watchdog.leases():
                possessor: Any = lease.possessor
                if not lease.alive:
                    yield f"{lease.value!r} is looked after, and over"
                elif possessor.process_lease is lease and possessor.attempt is not None:
                    yield f"{lease.value!r} is looked after, and being passed on"
