"""Whether the nodes of a quorum are as many, and as independent, as they seem."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from aiodistlock.doctor.facts import Deployment, Kind, NodeFacts
from aiodistlock.doctor.findings import Finding, Level


def quorum(deployment: Deployment) -> Iterator[Finding]:
    """Look at the nodes of a quorum together."""
    if deployment.kind is not Kind.QUORUM:
        return
    yield from _same(
        deployment.asked,
        lambda node: node.info.get("run_id", ""),
        Level.DANGER,
        "are one and the same Redis: it votes twice, so one node makes a majority",
        "give each node once",
    )
    nameless = tuple(node.place for node in deployment.asked if not node.info.get("run_id"))
    if nameless:
        yield Finding(
            level=Level.WARNING,
            check="independent",
            found="does not tell which server it is (INFO): should it be one of the others, it "
            "votes twice, and nobody notices",
            advice="grant the user INFO",
            nodes=nameless,
        )
    yield from _same(
        deployment.nodes,
        _host,
        Level.NOTE,
        "are on one host: they fall together",
        "run each node on a machine of its own",
    )
    yield from _size(len(deployment.nodes))
    clustered = tuple(node.place for node in deployment.asked if node.in_cluster)
    if clustered:
        yield Finding(
            level=Level.DANGER,
            check="independent",
            found="is part of a Cluster: most names have no place there, and it may fail over",
            advice="use standalone Redis for a quorum, or RedisCluster for a Cluster",
            nodes=clustered,
        )


def _same(
    nodes: Sequence[NodeFacts],
    what: Callable[[NodeFacts], str],
    level: Level,
    consequence: str,
    advice: str,
) -> Iterator[Finding]:
    groups: dict[str, list[str]] = defaultdict(list)
    for node in nodes:
        groups[what(node)].append(node.place)
    for shared, places in groups.items():
        if shared and len(places) > 1:
            yield Finding(
                level=level,
                check="independent",
                # The same URL twice has the same place twice.
                found=f"{len(places)} nodes {consequence}",
                advice=advice,
                nodes=tuple(dict.fromkeys(places)),
            )


def _host(node: NodeFacts) -> str:
    return "here" if node.place.startswith("unix:") else node.place.rpartition(":")[0]


def _size(size: int) -> Iterator[Finding]:
    may_fail = (size - 1) // 2
    if size == 2:
        found = "2 nodes: both are needed, so either one's failure stops all locks"
    elif size % 2 == 0:
        found = f"{size} nodes survive the loss of {may_fail}, as {size - 1} would"
    else:
        found = f"{size} nodes: locks go on while {size // 2 + 1} of them answer"
        yield Finding(level=Level.OK, check="size", found=found)
        return
    advice = "use an odd number of nodes, 3 or 5"
    yield Finding(level=Level.WARNING, check="size", found=found, advice=advice)
