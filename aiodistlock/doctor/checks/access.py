"""Whether a Redis can and may do what locks need."""

from __future__ import annotations

from collections.abc import Iterator

from aiodistlock.doctor.facts import Kind, NodeFacts
from aiodistlock.doctor.findings import Finding, Level
from aiodistlock.protocol.refusals import is_transient

OLDEST = (6, 2)
_SHARDED_PUBSUB = (7, 0)
_WAITAOF = (7, 2)
_CROWDED = 0.9
"""Share of maxclients from which on it is worth a word."""


def answering(node: NodeFacts, kind: Kind) -> Iterator[Finding]:
    """Tell of what could not be asked."""
    if node.error is not None:
        # A quorum is there to go on without some of its nodes.
        yield Finding(
            level=Level.WARNING if kind is Kind.QUORUM else Level.DANGER,
            check="reachable",
            found=f"not examined, or not to the end: {node.error}",
            advice=node.remedy or "start it, or mend the way there; then ask again",
        )
    unread = [
        f"{command} ({', '.join(checks)})"
        for command, checks in _NEEDED_FOR.items()
        if command in node.refused
    ]
    if unread:
        # A server that is BUSY refuses everybody.
        passes = any(is_transient(Exception(why)) for why in node.refused.values())
        yield Finding(
            level=Level.NOTE,
            check="not checked",
            found=f"the server does not let us ask {'; '.join(unread)}",
            advice="ask again when it answers"
            if passes
            else "look these up yourself, or ask again as a user who may",
        )


def replica_answering(node: NodeFacts, _kind: Kind) -> Iterator[Finding]:
    """Tell of a replica that could not be asked: nobody waits for it yet."""
    yield from answering(node, Kind.QUORUM)


_NEEDED_FOR = {
    "INFO": ("role", "replicas", "duplicates"),
    "CONFIG GET": ("persistence", "min-replicas", "resync", "timeout"),
}


def version(node: NodeFacts, kind: Kind) -> Iterator[Finding]:
    """Look for commands that came with a later Redis."""
    found = node.version
    if not found:
        return
    if found < OLDEST:
        yield Finding(
            level=Level.DANGER,
            check="version",
            found=f"{node.product} is too old: the scripts need 6.2",
            advice="upgrade Redis",
        )
    elif found < _SHARDED_PUBSUB and kind is Kind.CLUSTER:
        yield Finding(
            level=Level.WARNING,
            check="version",
            found=f"{node.product} has no sharded pub/sub: on a Cluster waiters poll",
            advice="upgrade to 7.0 or later",
        )
    elif found < _WAITAOF and kind in (Kind.SINGLE, Kind.SENTINEL):
        yield Finding(
            level=Level.NOTE,
            check="version",
            found=f"{node.product} has no WAITAOF: ack='fsync' cannot be used",
            advice="upgrade to 7.2 or later if you want it",
        )
    else:
        yield Finding(level=Level.OK, check="version", found=node.product)


def loading(node: NodeFacts, kind: Kind) -> Iterator[Finding]:
    """Look whether it has its data yet."""
    if any(denial.code == "LOADING" for denial in node.denials or ()):
        return  # which is told of the scripts that it refused
    if node.info.get("loading", "0") != "0":
        waits = "it gives no vote" if kind is Kind.QUORUM else "no lock is granted"
        yield Finding(
            level=Level.WARNING,
            check="loading",
            found=f"is loading its data: {waits} until it is done",
            advice="wait, then ask again",
        )


def connections(node: NodeFacts, _kind: Kind) -> Iterator[Finding]:
    """Look at what the server does to connections such as ours."""
    idle = node.number("timeout")
    if idle:
        yield Finding(
            level=Level.NOTE,
            check="timeout",
            found=f"closes connections after {idle} s without a request: ours is opened anew, "
            "which costs the next acquire some round trips",
            advice="set timeout 0",
        )
    limit, clients = node.number("maxclients"), node.count("connected_clients")
    if limit and clients > _CROWDED * limit:
        yield Finding(
            level=Level.WARNING,
            check="maxclients",
            found=f"{clients} of {limit} connections are in use: at the limit no process that "
            "starts, or connects again, gets locks",
            advice="raise maxclients, or look for a leak of connections",
        )


def protocol(node: NodeFacts, _kind: Kind) -> Iterator[Finding]:
    """Look whether one connection is enough."""
    if node.resp3 is False:
        yield Finding(
            level=Level.NOTE,
            check="protocol",
            found="speaks no RESP3: each process that waits needs a second connection",
            advice="let the user send HELLO, or go past the proxy that lacks it",
        )
