"""Whether the Sentinels can agree on a failover, and how long it takes."""

from __future__ import annotations

from collections.abc import Iterator

from aiodistlock.doctor.facts import Deployment, Kind, NodeFacts, SentinelFacts
from aiodistlock.doctor.findings import Finding, Level


def sentinel(deployment: Deployment, ttl: float) -> Iterator[Finding]:
    """Look at the Sentinels together."""
    if deployment.kind is not Kind.SENTINEL:
        return
    for each in deployment.sentinels:
        if each.error is not None:
            yield Finding(
                level=Level.WARNING,
                check="sentinels",
                found=f"the Sentinel was not examined: {each.error}",
                advice="start it, or take it out of the URL",
                nodes=(each.place,),
            )
    asked = [each for each in deployment.sentinels if each.error is None]
    yield from _agreement(asked)
    yield from _number(asked)
    for each in asked:
        yield from _view(each)
    yield from _times(deployment, asked, ttl)


def _agreement(asked: list[SentinelFacts]) -> Iterator[Finding]:
    named = {each.primary or "none" for each in asked}
    if len(named) > 1:
        yield Finding(
            level=Level.DANGER,
            check="sentinels",
            found=f"the Sentinels name different primaries: {', '.join(sorted(named))}",
            advice="wait if a failover is under way; else mend the Sentinels' configuration",
        )


def _number(asked: list[SentinelFacts]) -> Iterator[Finding]:
    known = max((each.number("num-other-sentinels") for each in asked), default=0) + 1
    if known < 3:
        yield Finding(
            level=Level.WARNING,
            check="sentinels",
            found=f"{known} Sentinel{'s' if known > 1 else ''}: when one is gone no majority is "
            "left to promote a replica",
            advice="run 3 Sentinels or more, each on a machine of its own",
        )
    else:
        yield Finding(level=Level.OK, check="sentinels", found=f"{known} Sentinels")


def _view(facts: SentinelFacts) -> Iterator[Finding]:
    """Look at what one Sentinel thinks of the primary."""
    if facts.quorum_problem is not None:
        yield Finding(
            level=Level.DANGER,
            check="failover",
            found=f"no failover is possible: {facts.quorum_problem}",
            advice="bring the other Sentinels back",
            nodes=(facts.place,),
        )
    flags = facts.master.get("flags", "").split(",")
    if {"s_down", "o_down"} & set(flags):
        yield Finding(
            level=Level.DANGER,
            check="failover",
            found="this Sentinel thinks that the primary is down",
            advice="wait for the failover, or mend the way between them",
            nodes=(facts.place,),
        )
    if facts.master and facts.number("num-slaves") == 0:
        yield Finding(
            level=Level.WARNING,
            check="failover",
            found="no replica is known: nothing can take over from the primary",
            advice="add a replica",
        )


def _times(deployment: Deployment, asked: list[SentinelFacts], ttl: float) -> Iterator[Finding]:
    """Compare the detection with the ttl, and with what a primary does when cut off."""
    detection = max((each.number("down-after-milliseconds") for each in asked), default=0) / 1000
    if detection == 0:
        return
    if detection > ttl:
        yield Finding(
            level=Level.WARNING,
            check="failover",
            found=f"a failover begins after {detection:g} s (down-after-milliseconds): no lease "
            f"of {ttl:g} s outlives it",
            advice="lower down-after-milliseconds, or use a longer ttl",
        )
    else:
        yield Finding(
            level=Level.OK,
            check="failover",
            found=f"a failover begins after {detection:g} s; leases of {ttl:g} s can outlive it",
        )
    for node in deployment.nodes:
        yield from _overlap(node, detection)


def _overlap(node: NodeFacts, detection: float) -> Iterator[Finding]:
    lag = node.number("min-replicas-max-lag")
    if lag and node.number("min-replicas-to-write") and lag > detection:
        yield Finding(
            level=Level.WARNING,
            check="min-replicas",
            found=f"a primary that is cut off grants locks for {lag} s more, while a failover "
            f"begins after {detection:g} s: two holders in between",
            advice="set min-replicas-max-lag below down-after-milliseconds",
            nodes=(node.place,),
        )
