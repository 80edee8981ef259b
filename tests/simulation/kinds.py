"""What besides plain locks takes the names of a world: a kind of lock joins by a row here.

For each there is what a task does with a name, in ``uses``; half of what is done in a schedule
is done with the kinds that it draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

TIMEOUTS = (None, None, 5.0, 0.3, 0.02, 0.0)
"""Seconds that callers wait."""

EVERYWHERE = ("single", "sentinel", "cluster", "quorum of 3", "quorum of 5")
WITH_A_QUEUE = EVERYWHERE[:3]


@dataclass(frozen=True)
class Kind:
    """
    One of them.

    :param share: of the schedules that have it
    :param deployments: where there is such a thing
    :param names: how many names there must be
    :param without: faults that it is not made for
    :param may_have_no_body: whether it may take a lock without a body, which would tell since when
        the lock is free
    """

    share: float
    deployments: tuple[str, ...] = WITH_A_QUEUE
    names: int = 1
    without: tuple[str, ...] = ()
    may_have_no_body: bool = True


KINDS = {
    "once": Kind(0.4),
    "election": Kind(0.3, may_have_no_body=False),
    "rwlock": Kind(0.3),
    "semaphore": Kind(0.3),
    "together": Kind(0.5, EVERYWHERE, names=2),
    # Bytes that arrive twice have it take an answer for that to another request.
    "redis-py": Kind(0.4, ("single",), without=("repeat",)),
}


def kinds_of(seed: int, deployment: str, names: int, faults: Sequence[str]) -> tuple[str, ...]:
    """Draw which there are in a schedule, each apart from all else."""
    return tuple(
        name
        for name, kind in KINDS.items()
        if Random(f"{seed}:{name}").random() < kind.share
        and deployment in kind.deployments
        and names >= kind.names
        and not {*kind.without} & {*faults}
    )
