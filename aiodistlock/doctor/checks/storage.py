"""Whether a Redis keeps the locks that it was given: memory and disk."""

from __future__ import annotations

from collections.abc import Iterator

from aiodistlock.doctor.facts import Kind, NodeFacts
from aiodistlock.doctor.findings import Finding, Level

_FULL = 0.9
"""Share of maxmemory from which on it is worth a word."""


def eviction(node: NodeFacts, _kind: Kind) -> Iterator[Finding]:
    """Look for a policy that drops locks when memory is short."""
    policy, limit = node.setting("maxmemory-policy"), node.number("maxmemory")
    if policy is None or limit is None:
        return
    if policy != "noeviction":
        # volatile-* too: every lock has a ttl, so locks are what it drops.
        drops = "any key" if policy.startswith("allkeys") else "keys with a ttl, as locks have,"
        if limit:
            yield Finding(
                level=Level.DANGER,
                check="eviction",
                found=f"maxmemory-policy {policy} drops {drops} when memory is short: "
                "a held lock goes, and a second holder comes",
                advice="set maxmemory-policy noeviction, or give the locks a Redis of their own",
            )
        else:
            yield Finding(
                level=Level.WARNING,
                check="eviction",
                found=f"maxmemory-policy {policy} would drop {drops} as soon as maxmemory is set",
                advice="set maxmemory-policy noeviction",
            )
        return
    yield Finding(level=Level.OK, check="eviction", found="no key is evicted (noeviction)")
    used = node.count("used_memory")
    if limit and used > _FULL * limit:
        yield Finding(
            level=Level.WARNING,
            check="memory",
            found=f"{used / limit:.0%} of maxmemory is used: at 100 % no lock is granted",
            advice="raise maxmemory, or move other data away",
        )


def persistence(node: NodeFacts, kind: Kind) -> Iterator[Finding]:
    """Look at what a restart leaves of the locks."""
    aof, save = node.setting("appendonly"), node.setting("save")
    if aof is None:
        return
    if aof == "yes":
        yield _append_only(node, kind)
    elif save is None:
        yield Finding(
            level=Level.NOTE,
            check="persistence",
            found="no append-only file; whether snapshots are taken could not be read",
            advice="see to it that a restart keeps the locks, or pass the fencing token on",
        )
    elif save:
        yield _snapshots(kind)
    else:
        yield _nothing_on_disk(node, kind)
    if "err" in (node.info.get("aof_last_write_status"), node.info.get("rdb_last_bgsave_status")):
        yield Finding(
            level=Level.WARNING,
            check="disk",
            found="the last write to disk failed; Redis may refuse to grant locks (MISCONF)",
            advice="look at the server's log and at the free space of its disk",
        )


def _append_only(node: NodeFacts, kind: Kind) -> Finding:
    fsync = node.setting("appendfsync")
    if fsync == "always":
        found = "append-only file, synced on every write"
        return Finding(level=Level.OK, check="persistence", found=found)
    if fsync == "no":
        return Finding(
            level=Level.WARNING,
            check="persistence",
            found="append-only file, synced when the system pleases: a crash of the machine "
            "forgets leases of the last half minute or so",
            advice="set appendfsync always, or at least everysec",
        )
    # A node of a quorum that forgot a second looks like one that forgot nothing.
    return Finding(
        level=Level.WARNING if kind is Kind.QUORUM else Level.NOTE,
        check="persistence",
        found="append-only file, synced every second: a crash of Redis forgets nothing, "
        "one of the machine up to a second of leases",
        advice="set appendfsync always, or have the fencing token cover that second",
    )


def _snapshots(kind: Kind) -> Finding:
    if kind is Kind.QUORUM:
        # Worse than nothing: an empty node shows that it forgot, an old one does not.
        return Finding(
            level=Level.DANGER,
            check="persistence",
            found="snapshots only: a node that restarts votes again at once, and has forgotten "
            "the leases given since the last one",
            advice="set appendonly yes and appendfsync always; or keep nothing on disk",
        )
    return Finding(
        level=Level.WARNING,
        check="persistence",
        found="snapshots only: a restart forgets the leases given since the last one",
        advice="set appendonly yes",
    )


def _nothing_on_disk(node: NodeFacts, kind: Kind) -> Finding:
    if kind is Kind.QUORUM:
        return Finding(
            level=Level.NOTE,
            check="persistence",
            found="keeps nothing on disk: a node that restarts is not counted until the longest "
            "ttl has passed; other Redlock clients may count it at once",
            advice="set appendonly yes and appendfsync always, to have it back sooner",
        )
    if node.replicas:
        return Finding(
            level=Level.DANGER,
            check="persistence",
            found="keeps nothing on disk and has replicas: if it restarts before a failover, "
            "they copy its emptiness, and every lock is free while its holder works",
            advice="set appendonly yes, or see to it that it does not restart by itself",
        )
    once = "once it is the primary, " if node.is_replica else ""
    return Finding(
        level=Level.WARNING,
        check="persistence",
        found=f"keeps nothing on disk: {once}a restart frees every lock while its holder works",
        advice="set appendonly yes, or pass the fencing token on",
    )
