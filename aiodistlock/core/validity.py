"""For how long a lease may be relied on, and when it is to be renewed."""

from __future__ import annotations


def drift(ttl: float) -> float:
    """
    Return the part of a ttl given up to clock differences, in seconds.

    1 % of the ttl plus 2 ms, as in the Redlock specification.
    """
    return ttl * 0.01 + 0.002


def relied_on(ttl: float) -> float:
    """Return for how long a lease may be relied on, seconds."""
    return ttl - drift(ttl)


def deadline(sent_at: float, ttl: float) -> float:
    """
    Return the local instant after which a lease must not be relied on.

    Counted from before the request was sent: the server's ttl began later.
    """
    return sent_at + relied_on(ttl)


RENEW_SHARE = 1 / 3
"""A lease is renewed when this share of its ttl is used up."""

TRY_SHARE = 1 / 6
"""A renewal is tried again when this share of what is left brought no answer."""
