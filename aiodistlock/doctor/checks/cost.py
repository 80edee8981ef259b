"""What the locks on a Redis cost it, and whether it is time to spread them.

Rules
-----
1. Scripts run on one core.  From half of it on a burst makes renewals late: that is when a
   Cluster is worth it (``docs/how-to/sizing.md`` has what one Redis bore).
2. Around a third of a lock's server time is spent beside its script, on reading and writing.  So
   where scripts take less than a third of what the server is busy with, it is not the locks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from aiodistlock.console.numbers import counted
from aiodistlock.doctor.facts import Cost, Kind, NodeFacts
from aiodistlock.doctor.findings import Finding, Level

_MOST: Final = 0.5
"""Share of its core that a Redis may be busy for."""
_BESIDE: Final = 1.5
"""How much longer than its scripts a server works for locks: rule 2."""
_THEIRS: Final = 1 / 3
"""Share of scripts below which it is somebody else's work: rule 2."""

_SPREAD: Final = {
    Kind.CLUSTER: "add a primary and move slots to it; or ask for less: a longer ttl, linger. A "
    "single hot name stays in its slot",
    Kind.QUORUM: "each node bears every name: give some of the names a quorum of their own; or "
    "ask for less: a longer ttl, linger",
}
_TO_CLUSTER: Final = (
    "it is time for a Cluster, which spreads names over its primaries; or ask for less: a "
    "longer ttl, linger"
)


def cost(node: NodeFacts, kind: Kind) -> Iterator[Finding]:
    """Tell what was measured; warn where a core is too busy for locks."""
    measured = node.cost
    if measured is None or not (told := _told(measured)):
        return
    busy = _busy(measured)
    if busy < _MOST:
        yield Finding(level=Level.OK, check="cost", found=told + _room(measured, busy, kind))
        return
    theirs = measured.in_scripts < _THEIRS * busy if measured.in_scripts is not None else True
    if theirs:
        consequence, advice = "mostly with other work", "give the locks a Redis of their own"
    else:
        consequence, advice = "mostly with scripts", _SPREAD.get(kind, _TO_CLUSTER)
    yield Finding(
        level=Level.WARNING,
        check="cost",
        found=f"{told}: it is busy for {_percent(busy)} of the time, {consequence}, and a burst "
        "makes renewals late",
        advice=advice,
    )


def _busy(measured: Cost) -> float:
    """Return the share of the time for which the server works, as far as that is known."""
    if measured.in_scripts is None:
        return 0.0
    if measured.core is None:
        return measured.in_scripts * _BESIDE
    # On a host that is short of cores it stands still in the middle of a script.
    return max(measured.core, measured.in_scripts)


def _told(measured: Cost) -> str:
    parts = []
    if measured.scripts is not None and measured.in_scripts is not None:
        share = _percent(measured.in_scripts)
        parts.append(f"{round(measured.scripts):,} scripts a second take {share} of a core")
        if measured.core is not None:
            parts[0] += f" (in use: {_percent(measured.core)})"
    if measured.listeners is not None:
        parts.append(f"{counted(measured.listeners, 'lock client')} listening")
    if measured.locks is not None:
        weight = "" if measured.memory is None else f", {measured.memory / 1024:,.1f} KB"
        parts.append(f"keys of locks: about {measured.locks:,}{weight}")
    return "; ".join(parts)


def _room(measured: Cost, busy: float, kind: Kind) -> str:
    """Say how far away a Cluster is."""
    if not measured.scripts or kind is Kind.CLUSTER or busy <= 0:
        return ""
    times = _MOST / busy
    more = (
        "many times" if times >= 100 else f"about {times:,.0f} times" if times >= 2 else "not twice"
    )
    return f". It bears {more} as much before it is busy for half of the time"


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.1 else f"{share:.1%}"
