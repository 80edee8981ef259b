"""What the answers of independent nodes add up to.

Rules (Redlock, redis.io/docs/latest/develop/clients/patterns/distributed-locks)
-----
1. A majority of all nodes decides, whether they answer or not.
2. A vote is decided as soon as a majority is reached, or out of reach: with an even
   number of nodes half of them against is enough (2 of 4, 1 of 2).
3. Any two majorities share a node.  So a fencing token that stands at a majority is seen
   by whoever takes the lock next, and theirs rises above it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import NamedTuple

LIMIT_SHARE = 0.05
"""Share of the ttl for which a round waits for its nodes."""

LEAST_LIMIT = 0.05
"""The same in seconds, at least."""

INSPECT_LIMIT = 1.0
"""Seconds for which a look waits: no lease depends on it, and it may have to connect first."""


def majority(nodes: int) -> int:
    """Return how many of so many nodes decide."""
    return nodes // 2 + 1


def limit(ttl: float) -> float:
    """Return for how long a round waits for its nodes, in seconds."""
    return max(LEAST_LIMIT, ttl * LIMIT_SHARE)


class Verdict(Enum):
    """What a vote has come to."""

    UNDECIDED = auto()
    WON = auto()
    LOST = auto()


def verdict(nodes: int, votes_for: int, votes_against: int) -> Verdict:
    """
    Decide a vote, as soon as it can be.

    :param votes_for: nodes that agreed
    :param votes_against: nodes that refused, failed, or do not count
    """
    if votes_for >= majority(nodes):
        return Verdict.WON
    if nodes - votes_against < majority(nodes):
        return Verdict.LOST
    return Verdict.UNDECIDED


class Agreement(NamedTuple):
    """The fencing token of a lease, and who has yet to learn it."""

    fence: int
    behind: tuple[int, ...]
    """Nodes whose counter is below; their own token was a lower one."""


def agree(issued: Mapping[int, int]) -> Agreement:
    """
    Return the fencing token that a majority's tokens amount to.

    The highest one, and only once it stands at a majority: the maximum alone, kept by
    a single node, would be issued again by a majority without that node.

    :param issued: the fencing token of each node that granted
    """
    fence = max(issued.values())
    return Agreement(fence, tuple(node for node, token in issued.items() if token < fence))


class Proposer:
    """
    Proposes fencing tokens: the local wall clock, in µs.

    Nodes that are ahead of it, by leases of clients whose clocks are, issue tokens that
    differ, and a second round must level them.  So the proposals of a client that is
    behind follow the tokens it sees, by at most ``MOST_AHEAD`` µs.
    """

    MOST_AHEAD = 1_000_000

    __slots__ = ("_ahead",)

    def __init__(self) -> None:
        self._ahead = 0

    def propose(self, now_us: int) -> int:
        """Return the fencing token to ask for."""
        return now_us + self._ahead

    def observe(self, proposed: int, issued: int) -> None:
        """Take in that a node issued a higher token than was proposed."""
        self._ahead = min(self.MOST_AHEAD, self._ahead + issued - proposed)


class Sighting(NamedTuple):
    """Who holds the lock, as one node sees it."""

    holder: str
    remaining: float | None


def seen_by_majority(nodes: int, unknown: int, sightings: list[Sighting]) -> Sighting | None:
    """
    Return the holder that a majority may name; ``None`` if the vote was split.

    :param unknown: nodes that said nothing: they may name it, too
    :param sightings: what the others said
    """
    names = [sighting.holder for sighting in sightings]
    if not names:
        return None
    holder = max(names, key=names.count)
    if names.count(holder) + unknown < majority(nodes):
        return None
    left = [sighting.remaining for sighting in sightings if sighting.holder == holder]
    known = [remaining for remaining in left if remaining is not None]
    return Sighting(holder, max(known) if len(known) == len(left) else None)


def all_new(nodes: int, ages: Mapping[int, float], within: float) -> bool:
    """
    Tell whether a deployment is brand-new, so that its nodes can be trusted at once.

    A node without a marker may have lost its data together with votes that still count
    elsewhere.  If *all* of them came up within a moment there is nothing that counts.

    :param ages: for how long each node is known to be without data, seconds
    :param within: longest such time, seconds
    """
    return len(ages) == nodes and max(ages.values()) < within
