"""Circumstances that are drawn together on purpose.

What is drawn apart seldom meets: a clock that is set back by less than a millisecond, between two
hand-offs of one lease, say.  So many schedules have a theme, which says what happens in them: few
kinds of faults, several at a time, in circumstances in which they matter.  Others have none, and
go on as they are drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

QUORUMS, NOT_QUORUMS = ("quorum of 3", "quorum of 5"), ("single", "sentinel", "cluster")
ALL = (*NOT_QUORUMS, *QUORUMS)


@dataclass(frozen=True)
class Theme:
    """
    One of them; ``None``: as drawn for any schedule.

    :param faults: kinds of strikes, as often as they are named; several come at a time
    :param power: by what the badness of each is raised: 3.0 has most of them be little
    :param rate: times a second at which some come
    :param bodies: see :class:`~tests.simulation.plan.Plan`, also for what follows
    :param deployments: where it makes sense
    """

    faults: tuple[str, ...] = ()
    power: float = 1.0
    aims: tuple[str, ...] = ("any", "holder", "waiter")
    rate: float = 8.0
    at_a_time: tuple[int, ...] = (1, 2, 3)
    waits: float = 0.6
    """Share of them that waits until a lock changes hands."""
    until: float | None = None
    ttls: tuple[float, ...] | None = None
    names: int | None = None
    workers: tuple[int, ...] | None = None
    weathers: tuple[str, ...] | None = ()
    lingers: tuple[float | str, ...] | None = None
    kinds: tuple[str, ...] | None = None
    claim_window: float | None = None
    bodies: str = "mixed"
    extends: float = 0.05
    slips: float = 0.0
    busy: bool = False
    look_costs: float = 0.0
    streams: bool = False
    deployments: tuple[str, ...] = ALL


THEMES = {
    "all is well": Theme(ttls=(0.06, 0.4), workers=(3, 8), kinds=(), bodies="short"),
    "leading while all is well": Theme(
        ttls=(0.06, 0.4),
        workers=(1, 3),
        kinds=("election",),
        bodies="short",
        deployments=NOT_QUORUMS,
    ),
    "busy bodies": Theme(ttls=(1.5,), claim_window=0.06, lingers=(0.0,), extends=0.0, busy=True),
    "lingering": Theme(
        ttls=(0.4, 1.5), names=1, workers=(1, 2, 3), lingers=(0.0, 0.3, 5.0), bodies="short"
    ),
    "armed": Theme(
        ttls=(0.4, 1.5),
        names=1,
        workers=(1, 1, 2),
        lingers=("auto",),
        kinds=(),
        bodies="short",
        deployments=NOT_QUORUMS,
    ),
    "in a row": Theme(
        ttls=(1.5,),
        names=1,
        workers=(1, 2),
        lingers=(5.0,),
        bodies="short",
        look_costs=100e-6,
        deployments=NOT_QUORUMS,
    ),
    "clock set back a little": Theme(
        ("back a little",),
        rate=20.0,
        ttls=(0.4, 1.5),
        names=1,
        workers=(1, 3, 8),
        bodies="short",
        deployments=("single",),
    ),
    "clock set": Theme(
        ("back", "back", "back", "forward", "OOM", "kill"),
        power=2.0,
        rate=30.0,
        ttls=(0.15, 1.5),
        names=1,
        workers=(1, 3, 8),
        bodies="short",
        deployments=("single",),
    ),
    "late grants": Theme(
        ("hold", "late both ways", "late both ways"),
        power=2.0,
        rate=10.0,
        ttls=(1.5,),
        names=1,
        workers=(1, 2),
        claim_window=0.3,
        bodies="short",
    ),
    "late grants under a clock set": Theme(
        ("forward a little", "forward a little", "stop", "hold", "stall"),
        power=2.0,
        rate=10.0,
        aims=("waiter", "any"),
        ttls=(1.5,),
        names=1,
        claim_window=0.06,
        deployments=("single",),
    ),
    "late claims": Theme(
        ("hold", "silent", "freeze", "block", "half"),
        power=2.0,
        rate=6.0,
        ttls=(1.5,),
        names=1,
        weathers=("slow",),
        claim_window=0.06,
    ),
    "late answers to renewals": Theme(
        ("late both ways", "late both ways", "hold", "freeze"),
        power=2.0,
        rate=2.0,
        at_a_time=(1,),
        waits=0.0,
        until=3.0,
        ttls=(0.4, 1.5),
        bodies="long",
    ),
    "none behind a slow answer": Theme(
        ("block", "block", "hold"),
        rate=2.0,
        at_a_time=(1,),
        waits=0.0,
        aims=("holder",),
        until=3.0,
        ttls=(0.15,),
        weathers=("slow",),
        bodies="long",
        extends=0.0,
    ),
    "left before a failover": Theme(
        ("failover", "cancel", "cancel", "cancel"),
        power=3.0,
        rate=12.0,
        waits=0.0,
        aims=("waiter", "waiter", "any"),
        at_a_time=(1, 2, 3),
        until=3.0,
        ttls=(1.5,),
        names=1,
        workers=(1, 2),
        lingers=(0.0,),
        deployments=("sentinel", "cluster"),
    ),
    "late answers to extensions": Theme(
        ("hold",),
        power=3.0,
        rate=2.0,
        at_a_time=(1,),
        waits=0.0,
        until=3.0,
        ttls=(0.15,),
        weathers=("slow", "spikes"),
        bodies="long",
        extends=0.5,
    ),
    "forgotten": Theme(("flush",), rate=2.0, ttls=(1.5,), bodies="long", extends=0.0),
    "suspended": Theme(
        ("suspend",),
        power=0.5,
        rate=0.7,
        at_a_time=(1,),
        waits=0.0,
        until=8.0,
        ttls=(1.9, 1.5),
        bodies="long",
    ),
    "silent": Theme(
        ("silent",),
        rate=0.7,
        at_a_time=(1,),
        waits=0.0,
        until=6.0,
        ttls=(1.9, 1.5),
        bodies="long",
        extends=0.0,
    ),
    "sent twice": Theme(
        ("half", "half", "flush scripts", "BUSY", "OOM", "cancel"),
        rate=20.0,
        ttls=(0.4, 1.5),
        names=1,
        bodies="short",
    ),
    "repeated": Theme(("repeat",), rate=30.0, names=6, workers=(3, 8), bodies="short"),
    "closed": Theme(("close", "cancel"), rate=6.0, at_a_time=(1,), ttls=(1.5,)),
    "closed while it lingers": Theme(
        ("close",),
        rate=4.0,
        at_a_time=(1,),
        lingers=(5.0,),
        bodies="short",
        deployments=NOT_QUORUMS,
    ),
    "cancelled": Theme(("cancel", "snatch", "snatch"), rate=20.0, workers=(3, 8), bodies="short"),
    "forged": Theme(("forge", "forge void", "drop clients", "reset"), rate=12.0, weathers=None),
    "slips": Theme(
        ("stop", "stall"), ttls=(0.06, 0.15), weathers=None, workers=(2, 3, 8), slips=0.02
    ),
    "evicted": Theme(
        ("evict",),
        rate=2.0,
        at_a_time=(1,),
        names=3,
        workers=(1, 2),
        ttls=(0.4,),
        kinds=("together",),
        bodies="long",
        deployments=NOT_QUORUMS,
    ),
    "together": Theme(
        ("cancel", "snatch", "half"),
        rate=12.0,
        names=3,
        ttls=(0.15, 1.5),
        kinds=("together",),
    ),
    "windows": Theme(
        ("OOM", "BUSY", "half", "cut", "hold", "kill"),
        power=2.0,
        rate=12.0,
        names=1,
        workers=(2, 3),
        ttls=(0.15, 1.5),
        kinds=("once",),
        deployments=NOT_QUORUMS,
    ),
    "terms": Theme(
        ("half", "hold", "kill", "cancel"),
        power=2.0,
        rate=8.0,
        names=1,
        workers=(1, 3),
        ttls=(0.15, 0.4),
        kinds=("election",),
        deployments=NOT_QUORUMS,
    ),
    "reading while all is well": Theme(
        names=1,
        workers=(2, 3, 8),
        ttls=(0.4, 1.5),
        kinds=("rwlock",),
        bodies="short",
        deployments=NOT_QUORUMS,
    ),
    "a stream of readers": Theme(
        names=1,
        workers=(8,),
        ttls=(1.5,),
        kinds=("rwlock",),
        bodies="short",
        streams=True,
        deployments=NOT_QUORUMS,
    ),
    "reading": Theme(
        ("kill", "cancel", "cancel", "flush", "hold"),
        power=2.0,
        rate=8.0,
        names=1,
        workers=(2, 3, 8),
        ttls=(0.15, 0.4),
        kinds=("rwlock",),
        bodies="long",
        deployments=NOT_QUORUMS,
    ),
    "amnesia": Theme(
        ("empty", "flush", "restart", "restart", "full", "block"),
        power=2.0,
        rate=2.0,
        waits=0.2,
        until=6.0,
        ttls=(1.9,),
        names=1,
        bodies="long",
        deployments=QUORUMS,
    ),
}

THEMED = 0.6
"""Share of the schedules that have a theme."""


def theme_of(seed: int, deployment: str) -> tuple[str, Theme] | None:
    """Draw the theme of a schedule, apart from all else."""
    rng = Random(f"{seed}:theme")
    if rng.random() >= THEMED:
        return None
    names = [name for name, each in THEMES.items() if deployment in each.deployments]
    name = rng.choice(names)
    return name, THEMES[name]
