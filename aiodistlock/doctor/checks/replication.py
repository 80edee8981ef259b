"""Whether writes to a primary outlive it, and whether this is a primary at all."""

from __future__ import annotations

from collections.abc import Iterator

from aiodistlock.doctor.facts import Kind, NodeFacts
from aiodistlock.doctor.findings import Finding, Level


def role(node: NodeFacts, kind: Kind) -> Iterator[Finding]:
    """Look whether it may take locks."""
    if not node.is_replica:
        return
    found = f"is a replica of {node.primary}: it takes no locks"
    advice = "use the URL of its primary, or of the Sentinels: redis+sentinel://…"
    if kind is Kind.QUORUM:
        found += ", and what it copies is no vote of its own"
        advice = "use a Redis that copies no other"
    yield Finding(level=Level.DANGER, check="role", found=found, advice=advice)


def min_replicas(node: NodeFacts, kind: Kind) -> Iterator[Finding]:
    """Look whether a primary that was cut off goes on granting locks."""
    wanted, lag = node.number("min-replicas-to-write"), node.number("min-replicas-max-lag")
    if node.is_replica or wanted is None or lag is None:
        return
    # A lag of 0 switches the rule off as well.
    if wanted == 0 or lag == 0:
        # Of a quorum nobody may be promoted: quorum_replicas says so.
        if kind is Kind.SENTINEL or (node.replicas and kind is not Kind.QUORUM):
            yield _goes_on_alone(kind)
        return
    if wanted > node.replicas:
        one_of_many = kind is Kind.QUORUM
        yield Finding(
            level=Level.WARNING if one_of_many else Level.DANGER,
            check="min-replicas",
            found=f"{'gives no vote' if one_of_many else 'grants no lock'}: "
            f"min-replicas-to-write is {wanted}, "
            f"and {node.replicas} replicas are connected",
            advice="bring the replicas back, or lower min-replicas-to-write",
        )
        return
    yield Finding(
        level=Level.OK,
        check="min-replicas",
        found=f"refuses writes after {lag} s without {wanted} of its {node.replicas} replicas",
    )
    if wanted == node.replicas:
        yield Finding(
            level=Level.NOTE,
            check="min-replicas",
            found="the loss of one replica stops all locks, and so does a failover: all are needed",
            advice="add a replica, or lower min-replicas-to-write",
        )


def _goes_on_alone(kind: Kind) -> Finding:
    return Finding(
        level=Level.DANGER if kind is Kind.SENTINEL else Level.WARNING,
        check="min-replicas",
        found="a primary that is frozen or cut off goes on granting locks when another one has "
        "been promoted: two holders",
        advice="with 2 replicas or more set min-replicas-to-write 1 and min-replicas-max-lag 1; "
        "and pass the fencing token on",
    )


def resync(node: NodeFacts, kind: Kind) -> Iterator[Finding]:
    """Look how soon a primary that was promoted has the replica without which it writes nothing."""
    delay = node.number("repl-diskless-sync-delay")
    needs_one = node.number("min-replicas-to-write") and node.number("min-replicas-max-lag")
    if node.is_replica or kind is Kind.QUORUM or not (needs_one and delay):
        return
    if node.setting("repl-diskless-sync") == "yes":
        yield Finding(
            level=Level.WARNING,
            check="resync",
            found=f"after a failover a primary may grant no lock for {delay} s more: it waits for "
            "so long before it copies itself to the replica that it needs",
            advice="set repl-diskless-sync-delay 0 on all of them",
        )


def replicas(node: NodeFacts, kind: Kind) -> Iterator[Finding]:
    """Look at the links to the replicas, and at the levels of ack that they allow."""
    if node.is_replica or kind is Kind.QUORUM or not node.replicas:
        return
    lag_limit = node.number("min-replicas-max-lag") or 10
    late = [each for each in _links(node) if _is_late(each, lag_limit)]
    if late:
        yield Finding(
            level=Level.WARNING,
            check="replicas",
            found=f"of {node.replicas} replicas {len(late)} lag behind or still copy: a "
            "failover to one of them forgets leases",
            advice="look at their network, load and log",
        )
    good = node.replicas - len(late)
    if good:
        yield Finding(
            level=Level.OK,
            check="replicas",
            found=f"{good} up to date: ack='replicas:{good}' is the most that can be met",
        )


def _links(node: NodeFacts) -> Iterator[dict[str, str]]:
    for number in range(node.replicas):
        told = node.info.get(f"slave{number}")
        if told is not None:
            yield dict(field.partition("=")[::2] for field in told.split(","))


def _is_late(link: dict[str, str], limit: int) -> bool:
    lag = link.get("lag", "0")
    return link.get("state") != "online" or not lag.isdecimal() or int(lag) > limit


def quorum_replicas(node: NodeFacts, kind: Kind) -> Iterator[Finding]:
    """Look for replicas of a quorum's node, whose promotion would lose votes."""
    if kind is Kind.QUORUM and node.replicas:
        yield Finding(
            level=Level.WARNING,
            check="replicas",
            found=f"has replicas ({node.replicas}): one that is promoted in its place lacks votes "
            "that were given, and two holders are possible",
            advice="never fail a quorum's node over; let it come back with its data",
        )
