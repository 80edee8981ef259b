"""Finds the servers of a deployment, and has each of them examined, all at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import anyio
from redis.exceptions import ResponseError

from aiodistlock.console.errors import CommandError

from .facts import ClusterFacts, Deployment, Kind, NodeFacts, SentinelFacts
from .node import Asking, examine
from .probes import Spot
from .session import Session, Silent, lines, pairs, text
from .targets import Endpoint, Target

T = TypeVar("T")
A = TypeVar("A")

Tell = Callable[[str], object]
"""Is told what is being done, for people who wait."""


async def gather(target: Target, asking: Asking, tell: Tell) -> Deployment:
    """
    Learn all that the checks want to know.

    :raises CommandError: if nothing can be examined at all
    """
    if target.kind is Kind.SENTINEL:
        return await _sentinel(target, asking, tell)
    if target.kind is Kind.CLUSTER:
        return await _cluster(target.endpoints, asking, tell)
    asking = replace(asking, votes=target.kind is Kind.QUORUM)
    nodes = await _examine(target.endpoints, asking, tell)
    if target.kind is Kind.SINGLE and nodes[0].in_cluster and nodes[0].error is None:
        found = await _cluster(target.endpoints, asking, tell)
        return replace(found, plain=True)
    for node in nodes:
        if node.is_sentinel:
            raise CommandError(
                f"{node.place} is a Sentinel: write redis+sentinel://{node.place}/ and the "
                "name that it gives to the primary"
            )
    _refuse_if_none_answers(nodes, "Redis")
    return Deployment(kind=target.kind, nodes=nodes)


def _refuse_if_none_answers(nodes: Sequence[NodeFacts | SentinelFacts], what: str) -> None:
    if all(node.nothing_learned for node in nodes):
        told = "; ".join(f"{node.place}: {node.nothing_learned}" for node in nodes)
        raise CommandError(f"no {what} can be examined: {told}")


async def _examine(
    endpoints: Sequence[Endpoint], asking: Asking, tell: Tell
) -> Sequence[NodeFacts]:
    tell(f"examining {', '.join(each.place for each in endpoints)}")
    return await _all(lambda endpoint: examine(endpoint, asking), endpoints)


async def _all(ask: Callable[[A], Awaitable[T]], of: Iterable[A]) -> list[T]:
    """Ask all at once; the answers in the order of the questions."""
    answers: dict[int, T] = {}

    async def one(number: int, whom: A) -> None:
        answers[number] = await ask(whom)

    async with anyio.create_task_group() as tasks:
        for number, whom in enumerate(of):
            tasks.start_soon(one, number, whom)
    return [answers[number] for number in sorted(answers)]


@dataclass(frozen=True, slots=True)
class _Member:
    """A line of CLUSTER NODES."""

    id: str
    endpoint: Endpoint
    flags: frozenset[str]
    primary_id: str
    slots: Spot


async def _cluster(seeds: Sequence[Endpoint], asking: Asking, tell: Tell) -> Deployment:
    tell("asking for the nodes of the Cluster")
    problems = []
    for seed in seeds:
        try:
            async with Session(seed, asking.timeout) as session:
                info = lines(await session.ask("CLUSTER", "INFO"))
                members = _members(text(await session.ask("CLUSTER", "NODES")), seed)
                break
        except Silent as silent:
            problems.append(f"{seed.place}: {silent.advised}")
        except ResponseError as refusal:
            problems.append(f"{seed.place}: {refusal}")
    else:
        raise CommandError(f"no node tells of its Cluster: {'; '.join(problems)}")
    primaries = [each for each in members if "master" in each.flags]
    takers = [each for each in primaries if each.slots.ranges] or primaries
    known = {each.id for each in takers}
    replicas = [each for each in members if each.primary_id in known]
    spots = {each.endpoint.place: each.slots for each in takers}
    asking = replace(asking, spots=spots)
    facts = await _examine([m.endpoint for m in (*takers, *replicas)], asking, tell)
    _refuse_if_none_answers(facts, "node of the Cluster")
    return Deployment(
        kind=Kind.CLUSTER,
        nodes=facts[: len(takers)],
        replicas=facts[len(takers) :],
        cluster=ClusterFacts(
            info=info,
            replicas={
                primary.endpoint.place: [
                    each.endpoint.place
                    for each in replicas
                    if each.primary_id == primary.id and not each.flags & {"fail", "fail?"}
                ]
                for primary in takers
            },
            failing=[each.endpoint.place for each in members if each.flags & {"fail", "fail?"}],
        ),
    )


def _members(nodes: str, seed: Endpoint) -> list[_Member]:
    """Read CLUSTER NODES: ``id host:port@bus[,name] flags primary … link slots…``."""
    found = []
    for line in nodes.splitlines():
        identity, address, flags, primary_id, _, _, _, _, *slots = line.split(" ")
        host, _, port = address.partition("@")[0].rpartition(":")
        known = frozenset(flags.split(","))
        if known & {"noaddr", "handshake"}:
            continue
        # A node that was never met does not know its own address.
        endpoint = seed.at(host or seed.options["host"], int(port))
        ranges = [
            (int(first), int(last or first))
            for first, _, last in (each.partition("-") for each in slots if each[0] != "[")
        ]
        found.append(_Member(identity, endpoint, known, primary_id, Spot(ranges)))
    return found


async def _sentinel(target: Target, asking: Asking, tell: Tell) -> Deployment:
    tell(f"asking the Sentinels for {target.service}")
    asked = await _all(
        lambda endpoint: _ask_sentinel(endpoint, target.service, asking.timeout),
        target.endpoints,
    )
    sentinels = [facts for facts, _ in asked]
    _refuse_if_none_answers(sentinels, "Sentinel")
    named = Counter(facts.primary for facts in sentinels if facts.primary)
    if not named:
        raise CommandError(f"the Sentinels know no primary {target.service!r}")
    primary = named.most_common(1)[0][0]
    # Of one that fell silent half-way, or may not tell, no replicas are known.
    replicas = max((found for facts, found in asked if facts.primary == primary), key=len)
    assert target.redis is not None, "a Sentinel's target tells how to reach Redis"
    endpoints = [target.redis.at(*_split(each)) for each in (primary, *replicas)]
    facts = await _examine(endpoints, asking, tell)
    return Deployment(kind=Kind.SENTINEL, nodes=facts[:1], replicas=facts[1:], sentinels=sentinels)


async def _ask_sentinel(
    endpoint: Endpoint, service: str, timeout: float
) -> tuple[SentinelFacts, list[str]]:
    """Ask one Sentinel; also return the replicas that it knows."""
    facts = SentinelFacts(place=endpoint.place)
    try:
        async with Session(endpoint, timeout) as session:
            address = await session.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service)
            if address is None:
                return facts, []
            facts = replace(facts, primary=_address(*address))
            master = pairs(await session.ask("SENTINEL", "MASTER", service))
            facts = replace(facts, master=master)
            known = [pairs(each) for each in await session.ask("SENTINEL", "REPLICAS", service)]
            replicas = [_address(each["ip"], each["port"]) for each in known]
            try:
                await session.ask("SENTINEL", "CKQUORUM", service)
            except ResponseError as refusal:
                facts = replace(facts, quorum_problem=str(refusal))
            return facts, replicas
    except (Silent, ResponseError) as error:
        told = error.advised if isinstance(error, Silent) else str(error)
        if "unknown command" in told.lower():
            told = "is no Sentinel"
        return replace(facts, error=told), []


def _address(host: bytes | str, port: bytes | str) -> str:
    return f"{text(host)}:{text(port)}"


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)
