"""Asks one Redis what it is, how it is set up, and how far away it is."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import anyio
from redis.exceptions import ResponseError

from aiodistlock.console.numbers import quantile
from aiodistlock.core.clock import local_clock
from aiodistlock.core.escaping import shown

from .cost import read_cost
from .counter import read_counter
from .facts import ClockReading, NodeFacts, RoundTrips
from .marker import read_marker
from .probes import LEAST_TTL_MS, Role, Spot, probe
from .session import Session, Silent, lines, pairs
from .targets import Endpoint

# By name, never `CONFIG GET *`: that would fetch the server's passwords.
_SETTINGS: Final = (
    *("maxmemory", "maxmemory-policy", "maxclients", "timeout"),
    *("appendonly", "appendfsync", "save"),
    *("min-replicas-to-write", "min-replicas-max-lag"),
    *("repl-diskless-sync", "repl-diskless-sync-delay"),
)
_CLUSTER_SETTINGS: Final = (
    *("cluster-node-timeout", "cluster-require-full-coverage", "cluster-replica-no-failover"),
)
_ANSWERS: Final = 5
"""How many times the longest wait for one answer all of them may take."""
_ROUND_TRIPS: Final = 100
"""How many round trips all of them may take instead, where the way is long: twice as many as
they are, for some take longer."""
_PROBING: Final = 50
"""How many round trips the probes may take, for which what they write is to stay."""
_LONGEST: Final = 60.0
"""Seconds that nobody waits longer for, however long the way is."""
_PINGS: Final = 100
_READINGS: Final = 10
_MEASURING: Final = 1.0
"""Seconds after which what is measured several times is measured no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """
    How to examine the nodes.

    :param timeout: seconds to wait for each answer
    :param namespace: prefix of the keys that the probes use
    :param votes: whether the nodes are those of a quorum
    :param sample: seconds for which scripts are counted; 0: not at all
    :param spots: where in the key space each node of a Cluster takes locks, by address
    """

    timeout: float
    namespace: str
    votes: bool = False
    sample: float = 0.0
    spots: Mapping[str, Spot] = field(default_factory=dict)


async def examine(endpoint: Endpoint, asking: Asking) -> NodeFacts:
    """Learn what can be learned of one node; what cannot is told in the facts."""
    facts: dict[str, Any] = {"refused": {}, "settings": {}}
    began = local_clock()
    try:
        with anyio.fail_after(asking.timeout * _ANSWERS) as bound:
            async with Session(endpoint, asking.timeout) as session:
                await _identify(session, facts)
                facts["round_trips"] = times = await _round_trips(session)
                # Each answer may be in time, and many of them take long all the same.
                needed = min(_LONGEST, times.p50 * _ROUND_TRIPS)
                bound.deadline = max(bound.deadline, anyio.current_time() + needed)
                bound.deadline += asking.sample
                await _ask_all(session, endpoint.place, asking, facts)
    except Silent as silent:
        facts["error"], facts["remedy"] = str(silent), silent.remedy
    except ResponseError as refusal:
        facts["error"] = str(refusal)
    except TimeoutError:
        told = f"not all was asked within {local_clock() - began:.3g} s"
        facts["error"] = f"answers too slowly: {told}"
        facts["remedy"] = "run the doctor nearer to the server, or with a longer --timeout"
    return NodeFacts(place=endpoint.place, **facts)


async def _ask_all(session: Session, place: str, asking: Asking, facts: dict[str, Any]) -> None:
    node = NodeFacts(place=place, **facts)
    await _settings(session, node.in_cluster, facts)
    facts["clock"] = await _clock(session)
    # A replica takes no writes: what a primary's role allows is asked there.
    if not node.is_replica:
        # Before the probes, whose scripts would count.
        sharded = node.in_cluster and node.version >= (7, 0)
        facts["cost"] = await read_cost(session, asking.namespace, asking.sample, by_slot=sharded)
        # Before the probes, which raise one.
        by_slot = asking.votes or node.in_cluster
        facts["counter_ahead"] = await read_counter(session, by_slot=by_slot)
        role = Role(
            namespace=asking.namespace,
            spot=asking.spots.get(place),
            votes=asking.votes,
            ttl_ms=max(LEAST_TTL_MS, round(facts["round_trips"].p50 * _PROBING * 1000)),
        )
        facts["denials"] = await probe(session, node, role)
        if asking.votes:
            facts["marker"], refused = await read_marker(session)
            facts["denials"] = [*refused, *(facts["denials"] or ())]
    facts["resp3"] = await _speaks_resp3(session)


async def _identify(session: Session, facts: dict[str, Any]) -> None:
    """Ask who it is."""
    for command, field_name, read in (("INFO", "info", lines), ("HELLO", "hello", _hello)):
        try:
            facts[field_name] = read(await session.ask(command))
        except ResponseError as refusal:
            facts["refused"][command] = str(refusal)
    try:
        facts["user"] = shown(await session.ask("ACL", "WHOAMI"))
    except ResponseError:
        facts["user"] = None


def _hello(reply: Any) -> dict[str, str]:
    return pairs([each for each in reply if not isinstance(each, list)])


async def _settings(session: Session, in_cluster: bool, facts: dict[str, Any]) -> None:
    names = _SETTINGS + (_CLUSTER_SETTINGS if in_cluster else ())
    for reply in await session.ask_all([("CONFIG", "GET", name) for name in names]):
        if isinstance(reply, ResponseError):
            facts["refused"]["CONFIG GET"] = str(reply)
        else:
            facts["settings"].update(pairs(reply))


async def _clock(session: Session) -> ClockReading | None:
    """Compare clocks; of several exchanges the fastest tells most.

    The server read its clock at some instant between sending and receiving: half-way,
    give or take half the round trip.
    """
    readings: list[ClockReading] = []
    give_up_at = local_clock() + _MEASURING
    while len(readings) < _READINGS and (not readings or local_clock() < give_up_at):
        wall, sent_at = time.time(), local_clock()
        try:
            seconds, micros = await session.ask("TIME")
        except ResponseError:
            return None
        half = (local_clock() - sent_at) / 2
        ahead = int(seconds) + int(micros) / 1e6 - (wall + half)
        readings.append(ClockReading(ahead, half))
    return min(readings, key=lambda reading: reading.error)


async def _round_trips(session: Session) -> RoundTrips:
    times: list[float] = []
    give_up_at = local_clock() + _MEASURING
    while len(times) < _PINGS and (not times or local_clock() < give_up_at):
        sent_at = local_clock()
        # Where an ACL forbids it the way there and back is as long.
        with suppress(ResponseError):
            await session.ask("PING")
        times.append(local_clock() - sent_at)
    return RoundTrips(quantile(times, 0.5), quantile(times, 0.99), len(times))


async def _speaks_resp3(session: Session) -> bool:
    """Ask for RESP3; the last question, because the answers change with it."""
    try:
        await session.ask("HELLO", 3)
    except ResponseError:
        return False
    return True
