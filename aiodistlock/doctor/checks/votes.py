"""Whether enough nodes of a quorum vote, and for how long those that lost their data do not.

Rules (vote.lua, rounds/acquire.py)
-----
1. A node votes if its marker says so; one that came up without data does not until its
   quarantine is over.
2. A node without a marker is quarantined from when a client asks for its first vote.
3. But if all nodes, without exception, answer a client that they came up without data
   within a second, it trusts them all at once: nothing can have been forgotten.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

from aiodistlock.core.options import ClientOptions
from aiodistlock.deployments.quorum.votes import majority
from aiodistlock.doctor.facts import Deployment, Kind, NodeFacts
from aiodistlock.doctor.findings import Finding, Level

from .refusals import stops_votes

_QUARANTINE: Final = ClientOptions().quarantine
"""Seconds, unless a LockClient says otherwise: which ones there are nobody can tell us."""


_Untrusted = Sequence[tuple[str, float | None]]
"""Nodes, and for how many seconds they give no vote; ``None``: nobody has asked them yet."""


def votes(deployment: Deployment, ttl: float) -> Iterator[Finding]:
    """Count the nodes that vote, and say what the others lack."""
    if deployment.kind is not Kind.QUORUM:
        return
    # Clients with a longer ttl must have a longer quarantine.
    quarantine = max(_QUARANTINE, ttl)
    if ttl > _QUARANTINE:
        yield _longer_than_default(ttl)
    untrusted = [
        (node.place, node.marker.remaining)
        for node in deployment.asked
        if node.marker and node.marker.remaining != 0 and not _refuses(node)
    ]
    if [remaining for _, remaining in untrusted] == [None] * len(deployment.nodes):
        yield Finding(
            level=Level.NOTE,
            check="quarantine",
            found="no node has a marker: no client has used this quorum yet, or all nodes were "
            "emptied. The first client trusts them at once, provided that all of them answer "
            f"it; if one does not, no lock is granted for {quarantine:g} s",
            advice="have all nodes up when the first client starts",
        )
        return
    for place, remaining in untrusted:
        yield _quarantined(place, remaining, quarantine)
    yield from _majority(deployment, untrusted, quarantine)


def _longer_than_default(ttl: float) -> Finding:
    """Say what leases ask for that a node could forget before they are over."""
    return Finding(
        level=Level.WARNING,
        check="quarantine",
        found=f"a LockClient refuses a ttl above its quarantine, which is {_QUARANTINE:g} s by "
        f"default; with one of {ttl:g} s a node that loses its data gives no vote for so long, "
        "and a client that has a shorter one lets it vote too early",
        advice=f"set quarantine={ttl:g} or more, the same in every LockClient of this quorum; or "
        "use a shorter ttl, which is renewed",
    )


def _refuses(node: NodeFacts) -> bool:
    """Tell whether a node that can be asked for its vote does not give it."""
    return node.is_replica or any(map(stops_votes, node.denials or ()))


def _quarantined(place: str, remaining: float | None, quarantine: float) -> Finding:
    """Tell of a node that came up without its data what it says itself."""
    advice = "wait, and leave its marker alone: it may have forgotten votes that still count"
    if remaining is None:
        found = "has no marker, so it is new or lost its data: it gives no vote until "
        found += f"{quarantine:g} s (quarantine) after a client first asks it"
    else:
        found = f"came up without its data: it gives no vote for {_span(remaining)} more"
        if remaining > quarantine:
            found += f", longer than the quarantine of {quarantine:g} s: a client has a longer "
            found += "one, or the node's clock was set back"
            advice = "if no client has so long a quarantine: DEL aiodistlock:marker, which begins "
            advice += "it anew"
    return Finding(
        level=Level.WARNING, check="quarantine", found=found, advice=advice, nodes=(place,)
    )


def _majority(
    deployment: Deployment, untrusted: _Untrusted, quarantine: float
) -> Iterator[Finding]:
    size = len(deployment.nodes)
    silent = size - len(deployment.asked)
    refusing = sum(map(_refuses, deployment.asked))
    voting, needed = size - silent - refusing - len(untrusted), majority(size)
    reasons = (
        (silent, "cannot be asked"),
        (refusing, "refuses" if refusing == 1 else "refuse"),
        (len(untrusted), "without data"),
    )
    missing = ", ".join(f"{number} {what}" for number, what in reasons if number)
    told = f"{voting} of {size} nodes {'votes' if voting == 1 else 'vote'} ({missing})"
    if voting < needed:
        until = _until(untrusted, needed - voting, quarantine)
        yield Finding(
            level=Level.DANGER,
            check="majority",
            found=f"{told}, and {needed} are needed: no lock is granted{until}",
            advice=_advice(untrusted, silent + refusing, voting),
        )
    elif size > voting == needed:
        yield Finding(
            level=Level.WARNING,
            check="majority",
            found=f"{told}: the next failure stops all locks",
            advice=_advice(untrusted, silent + refusing, voting),
        )


def _until(untrusted: _Untrusted, lacking: int, quarantine: float) -> str:
    """Say when enough nodes will vote, if waiting alone brings them back."""
    if len(untrusted) < lacking:
        return ""
    # Those that nobody has asked yet come last.
    left = sorted(math.inf if each is None else each for _, each in untrusted)
    if left[lacking - 1] == math.inf:
        return f" until {quarantine:g} s after a client first asks"
    return f" for {_span(left[lacking - 1])} more"


def _advice(untrusted: _Untrusted, gone: int, voting: int) -> str:
    back = "bring the others back, and see what those say that refuse"
    if not untrusted:
        return back
    if gone and voting == 0 and all(remaining is None for _, remaining in untrusted):
        return f"{back}: nodes that are all new when the first client asks are trusted at once"
    wait = "wait for those without data"
    return f"{back}; {wait}" if gone else wait


def _span(seconds: float) -> str:
    """Write a time to wait, as people read it."""
    if seconds <= 120:
        return f"{math.ceil(seconds)} s"
    return f"{seconds / 60:,.0f} min" if seconds <= 7200 else f"{seconds / 3600:,.0f} h"
