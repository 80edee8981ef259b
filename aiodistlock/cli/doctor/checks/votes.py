"""Whether enough nodes of a quorum vote."""

from __future__ import annotations

from collections.abc import Iterator

from aiodistlock.cli.doctor.facts import Deployment, Kind, NodeFacts
from aiodistlock.cli.doctor.findings import Finding, Level
from aiodistlock.core.quorum import majority

from .refusals import stops_votes


def votes(deployment: Deployment) -> Iterator[Finding]:
    """Count the nodes that vote, and say what the others lack."""
    if deployment.kind is not Kind.QUORUM:
        return
    size = len(deployment.nodes)
    silent = size - len(deployment.asked)
    refusing = sum(map(_refuses, deployment.asked))
    voting, needed = size - silent - refusing, majority(size)
    missing = []
    if silent:
        missing.append(f"{silent} cannot be asked")
    if refusing:
        missing.append(f"{refusing} {'refuses' if refusing == 1 else 'refuse'}")
    told = f"{voting} of {size} nodes {'votes' if voting == 1 else 'vote'}"
    told += f" ({', '.join(missing)})" if missing else ""
    if voting < needed:
        yield Finding(
            level=Level.DANGER,
            check="majority",
            found=f"{told}, and {needed} are needed: no lock is granted",
            advice="bring the others back, and see what those say that refuse",
        )
    elif size > voting == needed:
        yield Finding(
            level=Level.WARNING,
            check="majority",
            found=f"{told}: the next failure stops all locks",
            advice="bring the others back, and see what those say that refuse",
        )


def _refuses(node: NodeFacts) -> bool:
    """Tell whether a node that can be asked for its vote does not give it."""
    return node.is_replica or any(map(stops_votes, node.denials or ()))
