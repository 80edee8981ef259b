"""Whether a Redis Cluster serves every name, and survives a primary."""

from __future__ import annotations

from collections.abc import Iterator

from aiodistlock.doctor.facts import ClusterFacts, Deployment
from aiodistlock.doctor.findings import Finding, Level

_SLOTS = 16_384


def cluster(deployment: Deployment, ttl: float) -> Iterator[Finding]:
    """Look at the nodes of a Cluster together."""
    facts = deployment.cluster
    if facts is None:
        return
    if deployment.plain:
        yield Finding(
            level=Level.NOTE,
            check="client",
            found="this Redis is part of a Cluster: a plain Redis client gets only the locks "
            "whose slot is here",
            advice="give AsyncLock a RedisCluster, and the doctor redis+cluster://…",
        )
    yield from _state(facts)
    yield from _failing(facts)
    yield from _survival(facts)
    yield from _timeouts(deployment, ttl)


def _state(facts: ClusterFacts) -> Iterator[Finding]:
    state, covered = facts.info.get("cluster_state"), int(facts.info.get("cluster_slots_ok", "0"))
    if state == "ok" and covered == _SLOTS:
        found = "state ok, all slots are covered"
        yield Finding(level=Level.OK, check="cluster", found=found)
        return
    yield Finding(
        level=Level.DANGER,
        check="cluster",
        found=f"state {state}, {covered:,} of {_SLOTS:,} slots are served: other names get no lock",
        advice="bring the primaries back, or mend it by redis-cli --cluster fix",
    )


def _failing(facts: ClusterFacts) -> Iterator[Finding]:
    if facts.failing:
        yield Finding(
            level=Level.WARNING,
            check="cluster",
            found="other nodes cannot reach it",
            advice="start it, or make the Cluster forget it",
            nodes=tuple(facts.failing),
        )


def _survival(facts: ClusterFacts) -> Iterator[Finding]:
    """Look whether a failover has somebody to decide on it, and to go to."""
    primaries = len(facts.replicas)
    if primaries < 3:
        yield Finding(
            level=Level.WARNING,
            check="failover",
            found=f"{primaries} {'primary' if primaries == 1 else 'primaries'}: when one is gone "
            "no majority is left to promote a replica",
            advice="spread the slots over 3 primaries or more",
        )
    alone = tuple(primary for primary, replicas in facts.replicas.items() if not replicas)
    if alone:
        yield Finding(
            level=Level.WARNING,
            check="failover",
            found="has no replica that works: while it is down its names get no lock",
            advice="add a replica",
            nodes=alone,
        )
    else:
        fewest = min((len(replicas) for replicas in facts.replicas.values()), default=0)
        yield Finding(
            level=Level.OK,
            check="failover",
            found=f"every primary has {fewest} or more replicas",
        )


def _timeouts(deployment: Deployment, ttl: float) -> Iterator[Finding]:
    waits = [node.number("cluster-node-timeout") for node in deployment.asked]
    timeout = max((wait for wait in waits if wait is not None), default=0) / 1000
    if timeout > ttl:
        yield Finding(
            level=Level.WARNING,
            check="failover",
            found=f"a primary counts as failed after {timeout:g} s (cluster-node-timeout): no "
            f"lease of {ttl:g} s outlives a failover",
            advice="lower cluster-node-timeout, or use a longer ttl",
        )
    for node in deployment.replicas:
        if node.setting("cluster-replica-no-failover") == "yes":
            yield Finding(
                level=Level.WARNING,
                check="failover",
                found="never takes over from its primary (cluster-replica-no-failover)",
                advice="set cluster-replica-no-failover no",
                nodes=(node.place,),
            )
    if any(node.setting("cluster-require-full-coverage") == "yes" for node in deployment.nodes):
        yield Finding(
            level=Level.NOTE,
            check="coverage",
            found="one uncovered slot stops the locks on all names "
            "(cluster-require-full-coverage yes)",
            advice="set it to no if the names elsewhere should go on",
        )
