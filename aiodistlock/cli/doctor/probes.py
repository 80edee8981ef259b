"""Tries everything that locks do on a name that nobody uses.

An ACL is told best by what it lets through: ``ACL DRYRUN`` is young, seldom allowed
itself, and does not look into scripts.  Every key written here has a ttl of a few
seconds and is deleted at the end; the channel is one that nobody hears.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import anyio
from redis.exceptions import ResponseError

from aiodistlock.core.keys import LockKeys
from aiodistlock.core.slots import tag_of
from aiodistlock.stores import scripts
from aiodistlock.stores.redis_call import is_transient
from aiodistlock.stores.scripts import Script

from .facts import Denial, NodeFacts
from .session import Question, Session, Silent

LEAST_TTL_MS: Final = 5_000
"""Longer than the probes take, unless the way is long."""

_NO_CLIENT: Final = 2**62


@dataclass(frozen=True, slots=True)
class Spot:
    """The hash slots in which a node of a Cluster takes locks."""

    ranges: Sequence[tuple[int, int]]

    def __contains__(self, slot: int) -> bool:
        return any(first <= slot <= last for first, last in self.ranges)


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """
    What a node is to the locks.

    :param namespace: prefix of their keys
    :param spot: where it takes locks; ``None``: everywhere
    :param votes: whether it is one of a quorum
    :param ttl_ms: of the keys that the probes write; longer than they take
    """

    namespace: str
    spot: Spot | None = None
    votes: bool = False
    ttl_ms: int = LEAST_TTL_MS


async def probe(session: Session, node: NodeFacts, role: Role) -> list[Denial] | None:
    """
    Return what the node refuses of all that locks need.

    ``None``: nothing was tried, because no lock of the namespace is kept here.

    :raises Silent: if it stops answering; the keys left expire by themselves
    """
    keys = _keys(role)
    if keys is None:
        return None
    prefix = f"aiodistlock:inbox:doctor:{secrets.token_hex(8)}".encode()
    sharded = node.in_cluster and node.version >= (7, 0)
    inbox = b"%b:{%b}" % (prefix, tag_of(keys.slot)) if sharded else prefix
    denials: list[Denial] = []
    try:
        steps = (_votes if role.votes else _locks)(inbox, role.ttl_ms)
        if role.votes:
            # A throw-away marker: the real one begins a node's quarantine.
            marker = ("SET", _marker_of(keys), 0, "PX", role.ttl_ms)
            denials += await _tried(session, [("SET", marker)])
        denials += await _scripts(session, keys, steps, sharded=sharded)
    finally:
        await _remove(session, keys, role)
    publish, subscribe = ("SPUBLISH", "SSUBSCRIBE") if sharded else ("PUBLISH", "SUBSCRIBE")
    denials += await _tried(session, [(publish, (publish, inbox, b"probe")), *_extras(node, role)])
    # On a connection of its own: under RESP2 a subscribed one can do nothing else, and
    # who may SUBSCRIBE need not have the right to UNSUBSCRIBE.
    async with session.another() as second:
        denials += await _tried(second, [(subscribe, (subscribe, inbox))])
    return denials


def _marker_of(keys: LockKeys) -> bytes:
    return keys.key + b":marker"


async def _remove(session: Session, keys: LockKeys, role: Role) -> None:
    """Delete what was written, also when we are interrupted, which closes the session."""
    delete: tuple[str | bytes, ...] = ("DEL", keys.key, keys.fence, keys.queue)
    if role.votes:
        delete += (_marker_of(keys),)
    # A node that is silent by now, or forbids DEL, has the keys until they expire.
    with anyio.CancelScope(shield=True), suppress(Silent, ResponseError):
        try:
            await session.ask(*delete)
        except Silent:
            async with session.another() as again:
                await again.ask(*delete)


def _keys(role: Role) -> LockKeys | None:
    """Name a lock that nobody has, in a slot that the node owns; ``None`` if none is."""
    name, spot = f"aiodistlock-doctor:{secrets.token_hex(8)}:", role.spot
    if spot is None:
        return LockKeys(name, role.namespace)
    # Without a hash tag, as most names are: their companions begin with a brace.
    slots = [first for first, _ in spot.ranges]
    end = tag_of(slots[0], f"{role.namespace}{name}".encode()) if slots else b""
    # (The hash tag of a namespace decides alone.)
    keys = LockKeys(name + end.decode(), role.namespace)
    return keys if keys.slot in spot else None


_Step = tuple[str, Script, tuple[bytes | int, ...]]
_MINE, _OTHER, _NEXT = b"doctor:1", b"doctor:2", b"doctor:3"


def _locks(channel: bytes, ttl: int) -> list[_Step]:
    """Take, contend for, renew, pass on and give up a lock."""
    mine, other = _MINE, _OTHER
    return [
        ("acquire", scripts.ACQUIRE, (mine, ttl, ttl, b"", 0, ttl)),
        ("acquire (queue)", scripts.ACQUIRE, (other, ttl, ttl, channel, ttl, ttl)),
        ("inspect", scripts.INSPECT, ()),
        ("renew", scripts.RENEW, (mine, ttl, ttl)),
        # Hands the lock on to the waiter; nobody hears its channel, so it comes back.
        ("pass_on", scripts.PASS_ON, (mine, _NEXT, ttl, 0, ttl, channel, ttl, ttl)),
        ("acquire (queue)", scripts.ACQUIRE, (other, ttl, ttl, channel, ttl, ttl)),
        ("abandon", scripts.ABANDON, (other, channel, ttl, ttl)),
        ("release", scripts.RELEASE, (mine, 1, ttl)),
    ]


def _votes(channel: bytes, ttl: int) -> list[_Step]:
    """Vote, refuse a vote, renew, keep, level, and take the vote back."""
    mine, other = _MINE, _OTHER
    return [
        ("vote", scripts.VOTE, (mine, ttl, 1, ttl, b"", ttl, 0)),
        ("vote (wait)", scripts.VOTE, (other, ttl, 1, ttl, channel, ttl, 0)),
        ("inspect", scripts.INSPECT, ()),
        ("renew", scripts.RENEW, (mine, ttl, ttl)),
        ("keep", scripts.KEEP, (mine, ttl, 1, 0, ttl)),
        ("raise", scripts.RAISE, (2**52, ttl)),
        # Not the marker that is found, which would write one without a ttl.
        ("trust", scripts.TRUST, (b"another",)),
        ("unvote", scripts.UNVOTE, (mine, 1, ttl, channel)),
    ]


async def _scripts(
    session: Session, keys: LockKeys, steps: Sequence[_Step], *, sharded: bool
) -> list[Denial]:
    """Do what locks do, by the real scripts."""
    denials: dict[str, Denial] = {}
    for what, script, args in steps:
        refusal = await _run(session, script.sharded if sharded else script, keys, args)
        if refusal is not None:
            command, error = refusal
            name = command if denies_command(error) else f"script {what}"
            denials.setdefault(name, Denial(name, str(error), is_transient(error)))
    return list(denials.values())


async def _run(
    session: Session, script: Script, keys: LockKeys, args: Sequence[bytes | int]
) -> tuple[str, ResponseError] | None:
    """Run a script as the locks do; return the command that was refused, and how."""
    names = (keys.key, keys.fence, keys.queue, _marker_of(keys))[: script.keys]
    operands = (script.keys, *names, *args, 0)
    try:
        await session.ask("EVALSHA", script.sha, *operands)
    except ResponseError as error:
        if not str(error).startswith("NOSCRIPT"):
            return "EVALSHA", error
    else:
        return None
    try:
        await session.ask("EVAL", script.source, *operands)
    except ResponseError as error:
        return "EVAL", error
    return None


def denies_command(error: ResponseError) -> bool:
    """Tell EVAL itself being denied from a command or a key inside of the script."""
    told = str(error).lower()
    return told.startswith("noperm") and "'eval" in told and "script" not in told


_Attempt = tuple[str, Question]


def _extras(node: NodeFacts, role: Role) -> list[_Attempt]:
    """Return what is used if it is allowed: connections that broke, levels of ack."""
    tries: list[_Attempt] = [
        ("CLIENT INFO", ("CLIENT", "INFO")),
        ("CLIENT KILL", ("CLIENT", "KILL", "ID", _NO_CLIENT)),
    ]
    if role.votes or node.in_cluster:
        return tries  # where ack is local only
    tries.append(("WAIT", ("WAIT", 0, 1)))
    if node.version >= (7, 2):
        tries.append(("WAITAOF", ("WAITAOF", 0, 0, 1)))
    return tries


async def _tried(session: Session, tries: Sequence[_Attempt]) -> list[Denial]:
    replies = await session.ask_all([words for _, words in tries])
    return [
        Denial(what, str(reply), is_transient(reply))
        for (what, _), reply in zip(tries, replies, strict=True)
        if isinstance(reply, ResponseError)
    ]
