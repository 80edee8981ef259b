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
from redis.crc import key_slot
from redis.exceptions import ResponseError

from aiodistlock.core.keys import LockKeys
from aiodistlock.stores import scripts
from aiodistlock.stores.redis_call import is_transient
from aiodistlock.stores.scripts import Script

from .facts import Denial, NodeFacts
from .session import Session, Silent

# Longer than the probes take, even where each answer takes long.
_TTL_MS: Final = 5_000
_NO_CLIENT: Final = 2**62


@dataclass(frozen=True, slots=True)
class Spot:
    """The hash slots in which a node of a Cluster takes locks."""

    ranges: Sequence[tuple[int, int]]

    def __contains__(self, slot: int) -> bool:
        return any(first <= slot <= last for first, last in self.ranges)


async def probe(
    session: Session, node: NodeFacts, namespace: str, spot: Spot | None
) -> list[Denial] | None:
    """
    Return what the node refuses of all that locks need.

    ``None``: nothing was tried, because no lock of the namespace is kept here.

    :raises Silent: if it stops answering; the keys left expire after 5 s
    """
    keys = _keys(namespace, spot)
    if keys is None:
        return None
    channel = f"aiodistlock:inbox:doctor:{secrets.token_hex(8)}".encode()
    denials: list[Denial] = []
    try:
        denials += await _scripts(session, keys, channel)
    finally:
        await _remove(session, keys)
    sharded = node.in_cluster and node.version >= (7, 0)
    inbox = sharded_channel(channel, keys) if sharded else channel
    publish, subscribe = ("SPUBLISH", "SSUBSCRIBE") if sharded else ("PUBLISH", "SUBSCRIBE")
    denials += await _tried(session, [(publish, (publish, inbox, b"probe")), *_extras(node)])
    # On a connection of its own: under RESP2 a subscribed one can do nothing else, and
    # who may SUBSCRIBE need not have the right to UNSUBSCRIBE.
    async with session.another() as second:
        denials += await _tried(second, [(subscribe, (subscribe, inbox))])
    return denials


async def _remove(session: Session, keys: LockKeys) -> None:
    """Delete what was written, also when we are interrupted, which closes the session."""
    delete = ("DEL", keys.key, keys.fence, keys.queue)
    # A node that is silent by now, or forbids DEL, has the keys for 5 s more.
    with anyio.CancelScope(shield=True), suppress(Silent, ResponseError):
        try:
            await session.ask(*delete)
        except Silent:
            async with session.another() as again:
                await again.ask(*delete)


def _keys(namespace: str, spot: Spot | None) -> LockKeys | None:
    """Name a lock that nobody has, in a slot that the node owns; ``None`` if none is."""
    stem = f"aiodistlock-doctor:{secrets.token_hex(8)}"
    # Enough to hit a single slot out of 16,384; a namespace with a hash tag never may.
    for number in range(200_000):
        name = f"{stem}:{number}"
        if spot is None or key_slot(f"{namespace}{name}".encode()) in spot:
            return LockKeys(name, namespace)
    return None


async def _scripts(session: Session, keys: LockKeys, channel: bytes) -> list[Denial]:
    """Take, contend for, renew, pass on and give up a lock, by the real scripts."""
    denials: dict[str, Denial] = {}
    ttl, mine, other, next_token = _TTL_MS, b"doctor:1", b"doctor:2", b"doctor:3"
    for what, script, args in (
        ("acquire", scripts.ACQUIRE, (mine, ttl, ttl, b"", 0, ttl)),
        ("acquire (queue)", scripts.ACQUIRE, (other, ttl, ttl, channel, ttl, ttl)),
        ("inspect", scripts.INSPECT, ()),
        ("renew", scripts.RENEW, (mine, ttl, ttl)),
        # Hands the lock on to the waiter; nobody hears its channel, so it comes back.
        ("pass_on", scripts.PASS_ON, (mine, next_token, ttl, 0, ttl, channel, ttl, ttl)),
        ("acquire (queue)", scripts.ACQUIRE, (other, ttl, ttl, channel, ttl, ttl)),
        ("abandon", scripts.ABANDON, (other, channel, ttl, ttl)),
        ("release", scripts.RELEASE, (mine, 1, ttl)),
    ):
        refusal = await _run(session, script, keys, args)
        if refusal is not None:
            command, error = refusal
            name = command if _denies_command(error) else f"script {what}"
            denials.setdefault(name, Denial(name, str(error), is_transient(error)))
    return list(denials.values())


async def _run(
    session: Session, script: Script, keys: LockKeys, args: Sequence[bytes | int]
) -> tuple[str, ResponseError] | None:
    """Run a script as the locks do; return the command that was refused, and how."""
    operands = (3, keys.key, keys.fence, keys.queue, *args, 0)
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


def _denies_command(error: ResponseError) -> bool:
    """Tell EVAL itself being denied from a command or a key inside of the script."""
    told = str(error).lower()
    return told.startswith("noperm") and "'eval" in told and "script" not in told


_Attempt = tuple[str, tuple[str | bytes | int, ...]]


def sharded_channel(channel: bytes, keys: LockKeys) -> bytes:
    """Return an inbox in the hash slot of a key."""
    return channel + b":{%b}" % keys.key


def _extras(node: NodeFacts) -> list[_Attempt]:
    """Return what is used if it is allowed: connections that broke, levels of ack."""
    tries: list[_Attempt] = [
        ("CLIENT INFO", ("CLIENT", "INFO")),
        ("CLIENT KILL", ("CLIENT", "KILL", "ID", _NO_CLIENT)),
        ("WAIT", ("WAIT", 0, 1)),
    ]
    if node.version >= (7, 2):
        tries.append(("WAITAOF", ("WAITAOF", 0, 0, 1)))
    return tries


async def _tried(session: Session, tries: Sequence[_Attempt]) -> list[Denial]:
    denials = []
    for what, words in tries:
        try:
            await session.ask(*words)
        except ResponseError as error:
            denials.append(Denial(what, str(error), is_transient(error)))
    return denials
