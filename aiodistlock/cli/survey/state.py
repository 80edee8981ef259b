"""What Redis has about a lock: on one server, and added up over a quorum."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from aiodistlock.core.escaping import bounded
from aiodistlock.core.mark import KEPT, Mark
from aiodistlock.core.value import ENDING, ROUND
from aiodistlock.deployments.quorum.votes import Sighting, seen_by_majority

_TOKEN = re.compile(rf"(?:{KEPT})?(?P<host>.+){ENDING}{ROUND}")  # before the end: label or host


class Holder(NamedTuple):
    """Who a token belongs to; without host and pid it is another library's."""

    token: str
    host: str | None
    pid: int | None

    @classmethod
    def of(cls, token: str) -> Holder:
        """Read a token; of one that is longer than anybody's, the beginning."""
        token = bounded(token)
        found = _TOKEN.fullmatch(token)
        return cls(token, found["host"], int(found["pid"])) if found else cls(token, None, None)

    def __str__(self) -> str:
        return self.token if self.host is None else f"{self.host} pid {self.pid}"


@dataclass(frozen=True, slots=True)
class Waiter:
    """
    A process in the queue.

    :param waited: seconds since it came, by the server's clock
    """

    token: str
    waited: float


class PermitState(NamedTuple):
    """
    A lease of permits of a semaphore.

    :param slots: the numbers of its permits
    :param ttl: seconds left of it
    """

    token: str
    slots: tuple[int, ...]
    fence: int
    ttl: float


@dataclass(frozen=True, slots=True)
class LockState:
    """
    A lock as one server has it, or as a quorum amounts to.

    :param holder: token of the holder, ``None`` if the lock is free
    :param ttl: seconds left of the lease, ``None`` if free, or held without a ttl
    :param fence: with which the lease began, ``None`` if the lock is free or its holder has none
    :param waiters: processes that wait, in their order
    :param votes: how many servers name the holder
    :param mark: the last window that was done once; ``None``: none, or nobody has looked
    :param proclaimed: what the holder proclaims as the leader of an election; ``None``: nothing,
        or nobody has looked
    :param may_linger: whether the lease stays with its process when it is released, until
        somebody asks for it; whether it does at this instant only that process knows
    :param permits: of a semaphore, which has no holder: the leases of its permits by their slots
    :param readers: tokens of those who read, where readers hold the lock together
    """

    name: str
    holder: str | None = None
    ttl: float | None = None
    fence: int | None = None
    waiters: tuple[Waiter, ...] = ()
    votes: int = 0
    mark: Mark | None = None
    proclaimed: str | None = None
    may_linger: bool = False
    permits: tuple[PermitState, ...] = ()
    readers: tuple[str, ...] = ()

    @property
    def is_held(self) -> bool:
        """Whether somebody holds the lock, or a permit."""
        return self.holder is not None or bool(self.permits)

    @property
    def in_use(self) -> bool:
        """Whether somebody holds the lock or waits for it."""
        return self.is_held or bool(self.waiters)

    @property
    def kept(self) -> bool:
        """Whether the name is kept for a while by who has done its job, and holds it no more."""
        return self.holder is not None and self.holder.startswith(KEPT)

    @property
    def longest_wait(self) -> float:
        """Seconds for which the first of the waiters has waited, 0.0 for none."""
        return max((waiter.waited for waiter in self.waiters), default=0.0)


def added_up(nodes: int, states: Sequence[LockState]) -> LockState:
    """
    Return what the servers of a deployment say of one lock, as a majority sees it.

    A split vote is nobody's lock: none of the voters has it.  Servers that did not answer may
    name the holder, too.

    :param nodes: how many there are, also those that did not answer
    """
    if nodes == 1:
        return states[0]
    sightings = [Sighting(each.holder, each.ttl) for each in states if each.holder is not None]
    seen = seen_by_majority(nodes, nodes - len(states), sightings)
    # In no order between nodes: who waits on several has come when the first heard of it.
    waiting: dict[str, float] = {}
    for state in states:
        for waiter in state.waiters:
            waiting[waiter.token] = max(waiter.waited, waiting.get(waiter.token, 0.0))
    return LockState(
        name=states[0].name,
        holder=seen.holder if seen else None,
        ttl=seen.remaining if seen else None,
        fence=max((state.fence for state in states if state.fence is not None), default=None),
        waiters=tuple(
            Waiter(token, waited)
            for token, waited in sorted(waiting.items(), key=lambda each: -each[1])
        ),
        votes=sum(each.holder == seen.holder for each in sightings) if seen else 0,
    )
