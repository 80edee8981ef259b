"""When a released lease may stay with its process, and when it may be used again.

Rules
-----
1. It may stay only if it was got where nobody waited, and nobody has asked for it since.
2. It is used again only while the process would hear that somebody asks: over the connection
   that it was got over, on which something arrived within ``HEARD_WITHIN``.
3. Whoever uses it has at least half of the ttl, as after any local hand-off; so one that
   nobody uses is not renewed, and one whose process died is over when its ttl is.
4. Each use has a fencing token of its own, of which ``MAX_LOCAL_HANDOFFS`` are covered.
"""

from __future__ import annotations

from aiodistlock.core.fencing import MAX_LOCAL_HANDOFFS

HEARD_WITHIN = 1.0
"""Longest silence of the server behind which a lease is used again, seconds."""

QUIET_FOR = 60.0
"""For how long a name does not linger behind a holder who cannot ask, seconds."""

MOST = 1_000
"""Most leases of one client that linger at a time."""


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
