"""Deployments as the doctor might find them, to be judged without Redis."""

from collections.abc import Callable, Mapping

from aiodistlock.doctor.checks.diagnosis import diagnose
from aiodistlock.doctor.facts import (
    ClockReading,
    ClusterFacts,
    Deployment,
    Kind,
    NodeFacts,
    RoundTrips,
    SentinelFacts,
)
from aiodistlock.doctor.findings import Level

GOOD = {
    "maxmemory": "0",
    "maxmemory-policy": "noeviction",
    "maxclients": "10000",
    "timeout": "0",
    "appendonly": "yes",
    "appendfsync": "always",
    "save": "",
    "min-replicas-to-write": "0",
    "min-replicas-max-lag": "10",
}


def node(
    place: str = "a:1",
    *,
    info: Mapping[str, str] | None = None,
    **settings: str,
) -> NodeFacts:
    """A Redis with nothing wrong with it, save what the test says."""
    told = {name.replace("_", "-"): value for name, value in settings.items()}
    return NodeFacts(
        place=place,
        info={"role": "master", "redis_version": "7.4.0", "run_id": place, **(info or {})},
        settings={**GOOD, **told},
        denials=[],
        resp3=True,
        clock=ClockReading(0.0, 0.0001),
        round_trips=RoundTrips(0.0005, 0.001, 100),
    )


def changed(original: NodeFacts, **facts: object) -> NodeFacts:
    """The same node, with other facts."""
    kept = {name: getattr(original, name) for name in NodeFacts.__dataclass_fields__}
    return NodeFacts(**{**kept, **facts})


def single(examined: NodeFacts) -> Deployment:
    """One Redis."""
    return Deployment(kind=Kind.SINGLE, nodes=[examined])


def quorum(*nodes: NodeFacts) -> Deployment:
    """Independent nodes."""
    return Deployment(kind=Kind.QUORUM, nodes=nodes)


def levels(deployment: Deployment, check: str, ttl: float = 10.0) -> list[Level]:
    """The levels of all findings of one check, the worst first."""
    return [each.level for each in diagnose(deployment, ttl) if each.check == check]


def with_replicas(number: int, state: str = "online", lag: int = 0) -> dict[str, str]:
    """What INFO tells of a primary's replicas."""
    link = f"ip=10.0.0.1,port=6379,state={state},offset=1,lag={lag}"
    return {
        "connected_slaves": str(number),
        **{f"slave{each}": link for each in range(number)},
    }


def sentinels(
    primary: NodeFacts | None = None,
    replica: NodeFacts | None = None,
    change: Callable[[SentinelFacts], SentinelFacts] = lambda facts: facts,
    master: Mapping[str, str] | None = None,
) -> Deployment:
    """A primary and a replica under three Sentinels; ``change`` is applied to the last."""
    told = {
        "num-other-sentinels": "2",
        "num-slaves": "1",
        "down-after-milliseconds": "5000",
        "flags": "master",
        **(master or {}),
    }
    three = [SentinelFacts(place=f"s{n}:26379", primary="a:1", master=told) for n in range(3)]
    good = node(min_replicas_to_write="1", min_replicas_max_lag="1", info=with_replicas(2))
    return Deployment(
        kind=Kind.SENTINEL,
        nodes=[primary or good],
        replicas=[replica or node("b:1", info={"role": "slave"})],
        sentinels=[*three[:2], change(three[2])],
    )


def clustered(nodes: list[NodeFacts], plain: bool = False, **info: str) -> Deployment:
    """A Cluster of these primaries, each with one replica."""
    replicas = [node(f"r{each.place}", info={"role": "slave"}) for each in nodes]
    return Deployment(
        kind=Kind.CLUSTER,
        nodes=nodes,
        replicas=replicas,
        cluster=ClusterFacts(
            info={"cluster_state": "ok", "cluster_slots_ok": "16384", **info},
            replicas={each.place: [f"r{each.place}"] for each in nodes},
        ),
        plain=plain,
    )
