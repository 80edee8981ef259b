"""What to do with a lease that a local holder has released.

Lock cohorting (D. Dice, V. Marathe, N. Shavit, "Lock Cohorting: A General Technique
for Designing NUMA Locks", PPoPP 2012): the tasks of one process hand the lock over in
memory, a bounded number of times, before another process gets its turn.
"""

from __future__ import annotations

from enum import Enum, auto


class Step(Enum):
    """What follows a local release."""

    HAND_OVER = auto()
    """Wake the next local waiter, with the next fencing token."""
    RENEW = auto()
    """Too little is left of the ttl for the next holder: renew, then hand over."""
    PASS_ON = auto()
    """A bound is reached: let a process that waits at Redis have the lock."""
    RELEASE = auto()
    """Nobody waits here."""


HAND_OVER = Step.HAND_OVER
"""By its own name, for every hand-off: through the class it takes 0.1 us to look up."""


def next_step(  # noqa: PLR0917
    waiting: bool,
    handoffs: int,
    local_handoffs: int,
    now: float,
    span_ends_at: float,
    deadline: float,
    ttl: float,
) -> Step:
    """
    Decide what follows a local release.

    :param waiting: whether a local task waits
    :param handoffs: local hand-offs made since the grant
    :param local_handoffs: the bound on them
    :param now: the local instant
    :param span_ends_at: instant at which ``handoff_span`` since the grant is over
    :param deadline: end of the process's lease
    :param ttl: ttl of the lock that the next local holder uses, seconds
    """
    if not waiting:
        return Step.RELEASE
    if handoffs >= local_handoffs or now >= span_ends_at:
        return Step.PASS_ON
    if deadline - now < ttl / 2:
        return Step.RENEW
    return HAND_OVER
