"""Whether a Redis can and may do what locks need."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from aiodistlock.cli.doctor.facts import Denial, Kind, NodeFacts
from aiodistlock.cli.doctor.findings import Finding, Level

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
            advice="start it, or mend the way there; then ask again",
        )
    unread = [
        f"{command} ({', '.join(checks)})"
        for command, checks in _NEEDED_FOR.items()
        if command in node.refused
    ]
    if unread:
        yield Finding(
            level=Level.NOTE,
            check="not checked",
            found=f"the server does not let us ask {'; '.join(unread)}",
            advice="look these up yourself, or ask again as a user who may",
        )


def replica_answering(node: NodeFacts, _kind: Kind) -> Iterator[Finding]:
    """Tell of a replica that could not be asked: nobody waits for it yet."""
    yield from answering(node, Kind.QUORUM)


_NEEDED_FOR = {
    "INFO": ("role", "replicas", "duplicates"),
    "CONFIG GET": ("persistence", "min-replicas", "timeout"),
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


def loading(node: NodeFacts, _kind: Kind) -> Iterator[Finding]:
    """Look whether it has its data yet."""
    if node.info.get("loading", "0") != "0":
        yield Finding(
            level=Level.WARNING,
            check="loading",
            found="is loading its data: no lock is granted until it is done",
            advice="wait, then ask again",
        )


def permissions(node: NodeFacts, _kind: Kind) -> Iterator[Finding]:
    """Judge what was refused when it was tried."""
    if node.denials is None:
        return
    user = f"user {node.user!r}" if node.user else "this user"
    left = list(node.denials)
    for matches, level, consequence, advice in _CONSEQUENCES:
        refused = [each for each in left if matches(each)]
        left = [each for each in left if each not in refused]
        if refused:
            yield Finding(
                level=level,
                check="permissions",
                found=f"{consequence}: {_told(refused)}",
                advice=advice.format(user=user),
            )
    if not node.denials:
        yield Finding(
            level=Level.OK,
            check="permissions",
            found=f"{user} may do all that locks need (tried on a name of its own)",
        )


def _is(*names: str) -> Callable[[Denial], bool]:
    return lambda denial: denial.what in names


def _takes_locks(denial: Denial) -> bool:
    return denial.what in ("EVALSHA", "EVAL", "SET") or denial.what.startswith("script ")


# The first that matches a denial tells what follows from it.
_CONSEQUENCES: tuple[tuple[Callable[[Denial], bool], Level, str, str], ...] = (
    (
        lambda denial: denial.passing and _takes_locks(denial),
        Level.DANGER,
        "no lock is granted now",
        "see what the server says; this may pass by itself",
    ),
    (
        lambda denial: denial.what.startswith("the key "),
        Level.DANGER,
        "no vote can be given",
        "grant {user} the key aiodistlock:marker, which tells whether the node has its data",
    ),
    (
        _takes_locks,
        Level.DANGER,
        "no lock can be taken",
        (
            "grant {user} EVALSHA, EVAL, the commands in the scripts and the keys of the locks: "
            "see README, “What must the ACL allow?”"
        ),
    ),
    (
        _is("PUBLISH", "SPUBLISH", "SUBSCRIBE", "SSUBSCRIBE"),
        Level.WARNING,
        "waiters poll instead of being woken",
        (
            "grant {user} PUBLISH and SUBSCRIBE (on a Cluster SPUBLISH and SSUBSCRIBE) on "
            "aiodistlock:inbox:*"
        ),
    ),
    (
        _is("CLIENT INFO", "CLIENT KILL"),
        Level.NOTE,
        "a request that was on its way when a connection broke may run late",
        "grant {user} CLIENT INFO and CLIENT KILL",
    ),
    (
        _is("WAIT", "WAITAOF"),
        Level.NOTE,
        "ack='replicas:N' (WAIT) or ack='fsync' (WAITAOF) cannot be used",
        "grant {user} these commands if you want it",
    ),
)


def _told(denials: Sequence[Denial]) -> str:
    """Write what was refused, and the server's words once."""
    words = {each.why: None for each in denials}
    whats = ", ".join(each.what for each in denials)
    return f"{whats} refused ({'; '.join(list(words)[:2])})"


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
