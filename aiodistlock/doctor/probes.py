"""Tries everything that locks do on a name that nobody uses.

An ACL is told best by what it lets through: ``ACL DRYRUN`` is young, seldom allowed
itself, and does not look into scripts.  Every key written here has a ttl of a few
seconds and is deleted at the end, but for the fence counter, which all locks share; the
channel is one that nobody hears.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import anyio
from redis.exceptions import ResponseError

from aiodistlock.core.keys import LockKeys, void_key
from aiodistlock.core.slots import tag_of
from aiodistlock.core.value import value_of
from aiodistlock.protocol import leader_calls, mark_calls, reader_calls
from aiodistlock.protocol.operations import Operations
from aiodistlock.protocol.redis_call import RedisCall
from aiodistlock.protocol.refusals import is_transient
from aiodistlock.protocol.scripts import ON_CLUSTER, ON_ONE, Script

from .facts import Denial, NodeFacts
from .session import Question, Session, Silent

_LINE: Final = re.compile(r"@user_script: ?(\d+)")

KEYS_OF_ELECTIONS: Final = "keys of elections"
CHANNELS_OF_ELECTIONS: Final = "channels of elections"
KEYS_OF_ONCE: Final = "keys of what is done once"
KEYS_OF_READERS: Final = "keys of read/write locks"

LEAST_TTL_MS: Final = 5_000
"""Longer than the probes take, unless the way is long."""


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
    do = Operations(ON_CLUSTER if sharded else ON_ONE, by_slot=node.in_cluster)
    denials: list[Denial] = []
    try:
        address = inbox + b" probe"
        if role.votes:
            # A throw-away marker: the real one begins a node's quarantine.
            marker = ("SET", _marker_of(keys), 0, "PX", role.ttl_ms)
            denials += await _tried(session, [("SET", marker)])
            steps = _votes(keys, address, role.ttl_ms)
        else:
            denials += await _scripts(session, _locks(do, keys, address, role.ttl_ms))
            value = value_of(_MINE, 1)
            put = ("SET", keys.key, value, "PX", role.ttl_ms)
            denials += await _tried(session, [("SET", put)])
            steps = [
                ("renew", do.renew(keys, value, role.ttl_ms)),
                ("release", do.release(keys, value, 1)),
            ]
        denials += await _scripts(session, steps)
    finally:
        # Not the fence counter, which is that of all locks.
        await _remove(session, keys.key, keys.queue, *([_marker_of(keys)] if role.votes else []))
    publish, subscribe = ("SPUBLISH", "SSUBSCRIBE") if sharded else ("PUBLISH", "SUBSCRIBE")
    denials += await _tried(session, [(publish, (publish, inbox, b"probe")), *_extras(node, role)])
    # On a connection of its own: under RESP2 a subscribed one can do nothing else, and
    # who may SUBSCRIBE need not have the right to UNSUBSCRIBE.
    async with session.another() as second:
        denials += await _tried(second, [(subscribe, (subscribe, inbox))])
        # Whoever lacks what locks need is told of that first.
        if not role.votes and all(each.what in _ACKS for each in denials):
            denials += await _beside_locks(session, second, keys, publish, subscribe)
            denials += await _reading(session, do, keys, role.ttl_ms)
    return denials


async def _beside_locks(
    session: Session, second: Session, keys: LockKeys, publish: str, subscribe: str
) -> list[Denial]:
    """Return what is refused of what only some programs use, beside locks."""
    denials = []
    for what, call in (
        (KEYS_OF_ELECTIONS, leader_calls.leader(keys)),
        (KEYS_OF_ONCE, mark_calls.look(keys)),
    ):
        denials += await _denied(session, what, call)
    channel = keys.proclamation
    denials += await _tried(session, [(CHANNELS_OF_ELECTIONS, (publish, channel, b"probe"))])
    return denials + await _tried(second, [(CHANNELS_OF_ELECTIONS, (subscribe, channel))])


async def _reading(session: Session, do: Operations, keys: LockKeys, ttl: int) -> list[Denial]:
    """Return what is refused of reading together; a semaphore has no keys but those of a lock."""
    reader = _MINE + b"r"  # by which the scripts know one
    read = reader_calls.acquire_by(do.scripts.read, do, keys, reader, ttl, b"", 0, lambda _: None)
    try:
        denials = await _denied(session, KEYS_OF_READERS, read)
        return denials or await _denied(session, KEYS_OF_READERS, do.abandon(keys, reader, b"", 0))
    finally:
        await _remove(session, keys.key)
        await _remove(session, keys.readers, keys.version)


async def _denied(session: Session, what: str, call: RedisCall[Any]) -> list[Denial]:
    refusal = await _run(session, call)
    if refusal is None:
        return []
    return [Denial(what, str(refusal[1]), is_transient(refusal[1]))]


def _marker_of(keys: LockKeys) -> bytes:
    return keys.key + b":marker"


async def _remove(session: Session, *written: bytes) -> None:
    """Delete what was written, also when we are interrupted, which closes the session."""
    # A node that is silent by now, or forbids DEL, has the keys until they expire.
    with anyio.CancelScope(shield=True), suppress(Silent, ResponseError):
        try:
            await session.ask("DEL", *written)
        except Silent:
            async with session.another() as again:
                await again.ask("DEL", *written)


def _keys(role: Role) -> LockKeys | None:
    """Name a lock that nobody has, in a slot that the node owns; ``None`` if none is."""
    name, spot = f"aiodistlock-doctor:{secrets.token_hex(8)}:", role.spot
    if spot is None:
        return LockKeys(name, role.namespace)
    # Without a hash tag, as most names are.
    slots = [first for first, _ in spot.ranges]
    end = tag_of(slots[0], f"{role.namespace}{name}".encode()) if slots else b""
    # (The hash tag of a namespace decides alone.)
    keys = LockKeys(name + end.decode(), role.namespace)
    return keys if keys.slot in spot else None


_Step = tuple[str, RedisCall[Any]]
_MINE, _OTHER, _NEXT = b"doctor:1", b"doctor:2", b"doctor:3"


def _locks(do: Operations, keys: LockKeys, inbox: bytes, ttl: int) -> list[_Step]:
    """Take, contend for, pass on and give up a lock."""
    mine, other = _MINE, _OTHER
    queue = do.acquire(keys, other, ttl, inbox, ttl, queue_ttl_ms=ttl)
    # Hands the lock on to the waiter; nobody hears its inbox, so it comes back.
    pass_on = do.pass_on(
        *(keys, mine, _NEXT),
        ttl_ms=ttl,
        highest=0,
        inbox=inbox,
        grant_ttl_ms=ttl,
        queue_ttl_ms=ttl,
    )
    return [
        ("acquire", do.acquire(keys, mine, ttl, b"", 0, queue_ttl_ms=ttl)),
        ("acquire (queue)", queue),
        ("inspect", do.inspect(keys)),
        ("pass_on", pass_on),
        ("acquire (queue)", queue),
        ("abandon", do.abandon(keys, other, inbox, ttl)),
        ("abandon", do.abandon(keys, mine, b"", 0)),
    ]


def _votes(keys: LockKeys, inbox: bytes, ttl: int) -> list[_Step]:
    """Vote, refuse a vote, renew, keep, level, and take the vote back."""
    do, marker = Operations(by_slot=True), _marker_of(keys)

    def vote(token: bytes, inbox: bytes) -> RedisCall[Any]:
        options = {"proposed": 1, "quarantine_us": 0, "queue_ttl_ms": ttl}
        return do.vote(keys, token, ttl, inbox=inbox, marker=marker, **options)

    return [
        ("vote", vote(_MINE, b"")),
        ("vote (wait)", vote(_OTHER, inbox)),
        ("inspect", do.inspect(keys)),
        ("renew", do.renew_vote(keys, _MINE, ttl)),
        ("keep", do.keep(keys, _MINE, ttl, proposed=1, highest=0)),
        ("raise", do.raise_fence(keys, 1)),
        # Not the marker that is found, which would write one without a ttl.
        ("trust", do.trust(keys, b"another", marker)),
        ("unvote", do.unvote(keys, _MINE, 1, inbox)),
    ]


async def _scripts(session: Session, steps: Sequence[_Step]) -> list[Denial]:
    """Do what locks do, by the real scripts."""
    denials: dict[str, Denial] = {}
    for what, call in steps:
        refusal = await _run(session, call)
        if refusal is not None:
            command, error = refusal
            name = command if denies_command(error) else f"script {what}"
            inside = command_inside(call.script, error)
            told = f"{inside}: {error}" if inside else str(error)
            denials.setdefault(name, Denial(name, told, is_transient(error)))
    return list(denials.values())


async def _run(session: Session, call: RedisCall[Any]) -> tuple[str, ResponseError] | None:
    """Run a script as the locks do; return the command that was refused, and how."""
    # Nothing is void of a sender with one connection.
    operands = call.operands(void_key("doctor", call.keys.slot))
    try:
        await session.ask("EVALSHA", call.script.sha, *operands)
    except ResponseError as error:
        if not str(error).startswith("NOSCRIPT"):
            return "EVALSHA", error
    else:
        return None
    try:
        await session.ask("EVAL", call.script.source, *operands)
    except ResponseError as error:
        return "EVAL", error
    return None


def command_inside(script: Script, error: ResponseError) -> str | None:
    """Return the command in a script that Redis 6.2 refuses: it tells the line only."""
    at = _LINE.search(str(error))
    if at is None or "can't run this command" not in str(error):
        return None
    line = script.source.splitlines()[int(at[1]) - 1]
    called = re.search(rb"call\('(\w+)'", line)
    return called[1].decode() if called else None


def denies_command(error: ResponseError) -> bool:
    """Tell EVAL itself being denied from a command or a key inside of the script."""
    told = str(error).lower()
    return told.startswith("noperm") and "'eval" in told and "script" not in told


_Attempt = tuple[str, Question]
_ACKS = ("WAIT", "WAITAOF")


def _extras(node: NodeFacts, role: Role) -> list[_Attempt]:
    """Return what is used if it is allowed: levels of ack."""
    if role.votes or node.in_cluster:
        return []  # where ack is local only
    tries: list[_Attempt] = [("WAIT", ("WAIT", 0, 1))]
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
