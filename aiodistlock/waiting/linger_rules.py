"""When a released lease may stay with its process, and when it may be used again.

Rules
-----
1. It may stay only if it was got where nobody waited, and nobody has asked for it since.
2. It is used again only while the process would hear that somebody asks: over the connection
   that it was got over, on which something arrived within ``HEARD_WITHIN``.
3. Whoever uses it has at least half of the ttl, as after any local hand-off; so one that
   nobody uses is not renewed, and one whose process died is over when its ttl is.
4. Each use has a fencing token of its own, of which ``MAX_LOCAL_HANDOFFS`` are covered.
5. With ``linger="auto"`` a name is armed when ``IN_A_ROW`` leases in a row would have been used
   again, as far as its process can tell: each was asked for within the time for which the one
   before it would have lingered, and nobody waited.  A recall disarms it for ``DISARMED_FOR``,
   unless the lease had at least ``WORTH`` uses more.  So where processes take turns at random,
   it costs a recall in that time.
"""

from __future__ import annotations

from math import inf

from aiodistlock.core.fencing import MAX_LOCAL_HANDOFFS

HEARD_WITHIN = 1.0
"""Longest silence of the server behind which a lease is used again, seconds."""

QUIET_FOR = 60.0
"""For how long a name does not linger behind a holder who cannot ask, seconds."""

MOST = 1_000
"""Most leases of one client that linger at a time; and most names of which it knows whether
they are armed."""

IN_A_ROW = 3

WORTH = 8
"""Uses of a lease that outweigh the recall by which it ends."""

DISARMED_FOR = 30.0
"""Seconds."""


class Arming:
    """What a process saw of a name whose locks have ``linger="auto"``."""

    __slots__ = ("_disarmed_until", "_in_a_row", "_lingers_until", "armed")

    def __init__(self) -> None:
        self.armed = False
        """Whether its leases linger."""
        self._in_a_row = 0
        self._lingers_until = -inf
        """When the last lease would have ceased to linger."""
        self._disarmed_until = -inf

    def released(self, until: float) -> None:
        """Take note of a lease that is released, and until when it would have lingered."""
        self._lingers_until = until

    def began(self, now: float, *, others_wait: bool) -> None:
        """Take note of a lease that begins at the server."""
        again = now <= self._lingers_until and not others_wait
        self._in_a_row = self._in_a_row + 1 if again else 0
        if self._in_a_row >= IN_A_ROW and now >= self._disarmed_until:
            self.armed = True

    def recalled(self, now: float, uses: int) -> None:
        """Take note that somebody asks for a lease that had so many more uses."""
        if uses < WORTH:
            self.armed, self._in_a_row = False, 0
            self._disarmed_until = now + DISARMED_FOR


def may_be_used(  # noqa: PLR0917  # runs for every use, and keywords cost
    now: float, deadline: float, ttl: float, used: int, heard_at: float, until: float
) -> bool:
    """
    Tell whether a lease that is not recalled may have another holder without asking Redis.

    :param now: the local instant
    :param deadline: end of the lease
    :param ttl: ttl of the lock that uses it, seconds
    :param used: how many fencing tokens beyond its own are used up
    :param heard_at: instant at which anything was heard from the server
    :param until: instant at which it lingers no longer
    """
    return (
        now < until
        and deadline - now >= ttl / 2
        and used < MAX_LOCAL_HANDOFFS
        and now - heard_at < HEARD_WITHIN
    )
