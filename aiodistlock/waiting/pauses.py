"""How long a waiter lets pass until it asks again.

Rules
-----
1. Whoever asks while the key is free drives the queue, from wherever it stands: the first
   who still listens gets the lock.  So the first few watch the holder, on behalf of all:
   they ask when its lease must be over, and before that at the pauses of their backoff.
2. Whoever stands farther back asks the more rarely, and at random: at place *n* the pauses
   are *n* times as long, so that *n* waiters together ask about ln *n* times as often as one.
   That is often enough wherever the queue has moved meanwhile: a grant that is lost, or goes
   to a frozen waiter, costs the claim window and a moment.
3. But all before it may be dead.  So each asks ``LATE`` seconds after the end of the lease
   of whom it knows to hold the lock, at the latest.  Where many turns come before its own, a
   grant for the claim window is taken for the lease that it mostly becomes.
4. While a server refuses for a passing reason (it starts, or its cluster is down until a shard
   has failed over), nothing tells when that has passed: who waits asks each second, at least,
   and so does who releases, undoes something, or stands for election.
5. A queue that nobody visits expires, whatever pauses the user wants: ``MAX_PAUSE``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

    from aiodistlock.core.backoff import Backoff

MAX_PAUSE = 10.0
"""Longest pause, seconds: a third of ``QUEUE_TTL_MS``."""

REFUSED = 1.0
"""Longest pause while a server refuses for a passing reason, seconds."""

LATE = 0.5
"""For how long a lock may be free until the last one in the queue asks, seconds."""

TURN = 0.01
"""Seconds that each turn before ours is thought to take: for so long a frozen one may cost
more than its claim window, where hardly anybody else is left to notice."""

FEW = 3
"""How many watch the holder; and each so many places make a pause longer by as much again."""


def pause(delay: float, remaining: float | None, place: int, full: float, rng: Random) -> float:
    """
    Return after how many seconds to ask again.

    :param delay: what the backoff says
    :param remaining: seconds left of the holder's lease; ``None``: nobody knows
    :param place: how many wait before this one
    :param full: seconds left of the holder's lease at least, were it not as short as a grant
        that is not claimed yet, going by when it came; not above 0: nobody knows
    """
    watching = delay if remaining is None else min(delay, remaining + rng.uniform(0.001, 0.01))
    if place >= FEW:
        standing_back = 2 * delay * place / FEW * rng.random()
        if remaining is not None:
            # A grant that is not claimed yet: the turns before ours take so long anyway.
            latest = max(remaining, min(full, remaining + TURN * place))
            standing_back = min(standing_back, latest + LATE)
        watching = max(watching, standing_back)
    return min(watching, MAX_PAUSE)


def pause_refused(backoff: Backoff, tries: int, rng: Random) -> float:
    """
    Return after how many seconds to ask again who was refused for a passing reason.

    :param tries: how often it asked before
    """
    delay = backoff.delay(tries, rng)
    # All are refused at once: they must not ask in step.
    return delay if delay <= REFUSED else REFUSED * rng.uniform(0.5, 1.0)
