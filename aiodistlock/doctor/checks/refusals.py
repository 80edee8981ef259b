"""What follows from what a node refused to do: what passes, and what has to be granted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from aiodistlock.doctor.facts import Denial, Kind, NodeFacts
from aiodistlock.doctor.findings import Finding, Level
from aiodistlock.doctor.probes import (
    CHANNELS_OF_ELECTIONS,
    KEYS_OF_ELECTIONS,
    KEYS_OF_ONCE,
    KEYS_OF_READERS,
)


def permissions(node: NodeFacts, kind: Kind) -> Iterator[Finding]:
    """Judge what was refused when it was tried."""
    if node.denials is None:
        return
    user = f"user {node.user!r}" if node.user else "this user"
    yield from _passing([each for each in node.denials if each.passing], kind)
    left = [each for each in node.denials if not each.passing]
    elsewhere = [each for each in left if each.code in _ELSEWHERE]
    if elsewhere:
        yield _of_other_slots(elsewhere, kind)
        left = [each for each in left if each not in elsewhere]
    for matches, level, consequence, advice in _CONSEQUENCES:
        refused = [each for each in left if matches(each)]
        left = [each for each in left if each not in refused]
        if refused:
            told = (
                _OF_ONE_NODE.get(consequence, consequence) if kind is Kind.QUORUM else consequence
            )
            yield Finding(
                level=level,
                check="permissions",
                found=f"{told}: {_told(refused)}",
                advice=advice.format(user=user),
            )
    if not node.denials:
        yield Finding(
            level=Level.OK,
            check="permissions",
            found=f"{user} may do all that locks need (tried on a name of its own)",
        )


def stops_votes(denial: Denial) -> bool:
    """Tell whether a node of a quorum that refuses this gives no vote."""
    return denial.what in _VOTING


_VOTING = (
    *("EVALSHA", "EVAL", "SET", "script vote"),
    *("script marker", "the key aiodistlock:marker"),
)


def _is(*names: str) -> Callable[[Denial], bool]:
    return lambda denial: denial.what in names


def _takes_locks(denial: Denial) -> bool:
    return denial.what in ("EVALSHA", "EVAL", "SET") or denial.what.startswith("script ")


def _passing(denials: Sequence[Denial], kind: Kind) -> Iterator[Finding]:
    """Judge what no permission would mend: each reason by itself."""
    by_code: dict[str, list[Denial]] = defaultdict(list)
    for each in denials:
        by_code[each.code].append(each)
    for code, refused in by_code.items():
        if not any(map(_takes_locks, refused)):
            level, consequence = Level.NOTE, "could not be tried now"
        elif kind is Kind.QUORUM:
            # Whether the others are enough is judged where all are looked at.
            level, consequence = Level.WARNING, "this node gives no vote now"
        else:
            level, consequence = Level.DANGER, "no lock is granted now"
        yield Finding(
            level=level,
            check="permissions",
            found=f"{consequence}: {_told(refused)}",
            advice=_UNTIL.get(code, "see what the server says; this may pass by itself"),
        )


_UNTIL = {
    "BUSY": "a script or function blocks the server: wait for its end, or stop it by SCRIPT "
    "KILL (FUNCTION KILL); once it has written, only SHUTDOWN NOSAVE does",
    "CLUSTERDOWN": "the Cluster serves no slots, or not this one: bring back the primaries that "
    "are down, or mend it by redis-cli --cluster fix",
    "LOADING": "wait until the server has loaded its data, then ask again",
    "MASTERDOWN": "this is a replica that lost its primary: use the URL of a primary",
    "MISCONF": "the server cannot save to its disk: look at its log and at the free space",
    "NOREPLICAS": "bring the replicas back, or lower min-replicas-to-write",
    "OOM": "the server is full: raise maxmemory, or move other data away",
    "READONLY": "this is a replica, perhaps since a failover: use the URL of its primary",
    "TRYAGAIN": "a slot is moving to another node of the Cluster: wait until it has moved",
}
"""What to do until a refusal has passed, by the server's code for it."""

_ELSEWHERE = ("CROSSSLOT", "MOVED", "ASK")


def _of_other_slots(denials: Sequence[Denial], kind: Kind) -> Finding:
    """Judge a server that keeps keys by hash slot, and says that ours are not its own."""
    if kind is Kind.QUORUM:
        found = "this node belongs to a Cluster, and gives no vote: lock and marker are keys of "
        found += "different slots"
        advice = "use standalone Redis for a quorum; give a Cluster alone: redis+cluster://…"
    elif kind is Kind.CLUSTER:
        found = "the slot of the name that was tried is moving, or has just moved"
        advice = "wait until the Cluster has its slots in place, then ask again"
    else:
        found = "this is one node of a Cluster, or a proxy before one: no lock can be taken here, "
        found += "whose keys are of different slots, or whose slot is elsewhere"
        advice = "use redis+cluster://…, and give AsyncLock a RedisCluster"
    return Finding(
        level=Level.WARNING if kind is Kind.CLUSTER else Level.DANGER,
        check="permissions",
        found=f"{found}: {_told(denials)}",
        advice=advice,
    )


# The first that matches a denial tells what follows from it.
_CONSEQUENCES: tuple[tuple[Callable[[Denial], bool], Level, str, str], ...] = (
    (
        lambda denial: denial.what.startswith("the key ") and "WRONGTYPE" in denial.why,
        # As a node that is silent: the others go on, and no ACL is to blame.
        Level.WARNING,
        "this node gives no vote: something else was written to its marker",
        "find out who did; then DEL aiodistlock:marker, which begins its quarantine",
    ),
    (
        lambda denial: denial.what.startswith("the key "),
        Level.DANGER,
        "this node gives no vote",
        "grant {user} the key aiodistlock:marker, which tells whether the node has its data",
    ),
    (
        _takes_locks,
        Level.DANGER,
        "no lock can be taken",
        (
            "grant {user} EVALSHA, EVAL, the commands in the scripts and the keys of the locks: "
            "see docs/how-to/redis-for-locks.md, “What the ACL must allow”"
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
        _is(KEYS_OF_ELECTIONS, CHANNELS_OF_ELECTIONS),
        Level.NOTE,
        "there can be no elections, or their observers poll",
        "grant {user} the keys and the channels aiodistlock:leader:* if you want any",
    ),
    (
        _is(KEYS_OF_ONCE),
        Level.NOTE,
        "nothing can be done once a window",
        "grant {user} the keys aiodistlock:done:* if you want that",
    ),
    (
        _is(KEYS_OF_READERS),
        Level.NOTE,
        "there can be no read/write locks",
        "grant {user} the keys aiodistlock:readers:* and aiodistlock:version:* if you want any",
    ),
    (
        _is("WAIT", "WAITAOF"),
        Level.NOTE,
        "ack='replicas:N' (WAIT) or ack='fsync' (WAITAOF) cannot be used",
        "grant {user} these commands if you want it",
    ),
)

_OF_ONE_NODE = {"no lock can be taken": "this node cannot do its part in a lock"}
"""What a consequence is on a quorum, which has other nodes."""


def _told(denials: Sequence[Denial]) -> str:
    """Write what was refused and the server's words, each once."""
    words = {each.why: None for each in denials}
    whats = ", ".join(dict.fromkeys(each.what for each in denials))
    return f"{whats} refused ({'; '.join(list(words)[:2])})"
