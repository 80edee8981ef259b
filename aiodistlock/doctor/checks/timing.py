"""Whether a ttl leaves time for the way to Redis, and whether clocks agree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from aiodistlock.core.validity import drift
from aiodistlock.deployments.quorum import votes
from aiodistlock.doctor.facts import ClockReading, Deployment, Kind, NodeFacts, RoundTrips
from aiodistlock.doctor.findings import Finding, Level

_SYNCHRONISED = 1.0
"""Clocks that differ by more, seconds, are not kept by anybody."""

Clocks = Sequence[tuple[str, ClockReading]]


def round_trips(deployment: Deployment, ttl: float) -> Iterator[Finding]:
    """Compare the way to each node with the ttl."""
    measured = [(node, node.round_trips) for node in deployment.nodes if node.round_trips]
    slow = [finding for node, times in measured for finding in _slow(node, times, deployment, ttl)]
    yield from slow
    if measured and not slow:
        node, times = max(measured, key=lambda pair: pair[1].p99)
        yield Finding(
            level=Level.OK,
            check="round trip",
            found=f"p50 {_ms(times.p50)}, p99 {_ms(times.p99)} of {times.count} PINGs, for a "
            f"ttl of {ttl:g} s",
            nodes=(node.place,),
        )
    for node in deployment.nodes:
        yield from _forks(node, ttl)


def _slow(
    node: NodeFacts, times: RoundTrips, deployment: Deployment, ttl: float
) -> Iterator[Finding]:
    limit, quorum = votes.limit(ttl), deployment.kind is Kind.QUORUM
    measured = f"p50 {_ms(times.p50)}, p99 {_ms(times.p99)}"
    if times.p50 > (limit if quorum else ttl / 3):
        lost = "most of its votes come too late" if quorum else "renewals come too late"
        level, consequence = Level.DANGER, lost
    elif times.p99 > limit:
        lost = "some votes come too late" if quorum else "some renewals come late"
        level, consequence = Level.WARNING, lost
    else:
        return
    yield Finding(
        level=level,
        check="round trip",
        found=f"{measured} for a ttl of {ttl:g} s (limit {_ms(limit)}): {consequence}",
        advice="use a Redis that is nearer or less busy, or a longer ttl",
        nodes=(node.place,),
    )


def _forks(node: NodeFacts, ttl: float) -> Iterator[Finding]:
    """Look how long the server stood still when it forked to save."""
    stall = node.count("latest_fork_usec") / 1e6
    if stall > votes.limit(ttl):
        yield Finding(
            level=Level.WARNING,
            check="latency",
            found=f"stood still for {_ms(stall)} when it forked to save",
            advice="give the locks a small Redis of their own, or switch huge pages off",
            nodes=(node.place,),
        )


def clocks(deployment: Deployment, ttl: float) -> Iterator[Finding]:
    """Compare the clocks with this host's, and with each other."""
    readings = _readings(deployment.asked)
    if not readings:
        return
    yield _against_host(readings, ttl)
    for group in _groups(deployment):
        yield from _among(_readings(group), deployment.kind, ttl)


def fence_counter(node: NodeFacts, kind: Kind) -> Iterator[Finding]:
    """Look for a counter that a clock left far ahead when it was set back."""
    ahead = node.counter_ahead
    if ahead is None or ahead <= _SYNCHRONISED:
        return
    # Clients propose fencing tokens to a quorum, whose nodes cover hand-offs within a process.
    why, slower = "which was set back", "no lease is handed on within a process, and "
    if kind is Kind.QUORUM:
        why, slower = "which was set back, or one of the clients' is ahead", ""
    clock = node.clock
    is_wrong = clock is not None and -clock.ahead - clock.error > _SYNCHRONISED
    remedy = "set the clock right, by NTP" if is_wrong else "leave the counter alone, it passes"
    yield Finding(
        level=Level.WARNING,
        check="fence counter",
        found=f"a fence counter is {_ms(ahead)} ahead of the server's clock, {why}: until that "
        f"has caught up {slower}fencing tokens rise only as long as the counter is there",
        advice=f"{remedy}; till then lose no data here (FLUSHALL, a restart or a failover "
        "without it)",
    )


def _readings(nodes: Sequence[NodeFacts]) -> Clocks:
    return [(node.place, node.clock) for node in nodes if node.clock is not None]


def _against_host(readings: Clocks, ttl: float) -> Finding:
    """Compare with our own clock: a wrong one does no harm until it is set right."""
    place, clock = max(readings, key=lambda pair: abs(pair[1].ahead) - pair[1].error)
    surely = abs(clock.ahead) - clock.error
    told = f"clock is {_told(clock)} this host's"
    if surely <= drift(ttl):
        return Finding(level=Level.OK, check="clock", found=told, nodes=(place,))
    level = Level.WARNING if surely > _SYNCHRONISED else Level.NOTE
    return Finding(
        level=level,
        check="clock",
        found=f"{told}: when one of the two is set right, by more than the drift of "
        f"{_ms(drift(ttl))}, leases end early or late",
        advice="keep all clocks by NTP (chrony), slewed and not stepped",
        nodes=(place,),
    )


def _groups(deployment: Deployment) -> list[list[NodeFacts]]:
    """Return the nodes whose clocks matter to each other."""
    if deployment.cluster is None:
        return [deployment.asked]
    by_place = {node.place: node for node in deployment.asked}
    return [
        [by_place[each] for each in (primary, *replicas) if each in by_place]
        for primary, replicas in deployment.cluster.replicas.items()
    ]


def _among(readings: Clocks, kind: Kind, ttl: float) -> Iterator[Finding]:
    if len(readings) < 2:
        return
    (last, behind), (first, ahead) = (
        pick(readings, key=lambda pair: pair[1].ahead) for pick in (min, max)
    )
    apart, error = ahead.ahead - behind.ahead, ahead.error + behind.error
    told = f"clocks are {_ms(apart)} apart (± {_ms(error)})"
    if apart - error > drift(ttl):
        consequence = (
            "one of them is not kept, and will be set right some day"
            if kind is Kind.QUORUM
            else "a failover to the one ahead may end leases early, to the one behind turn "
            "fencing tokens back"
        )
        yield Finding(
            level=Level.WARNING if kind is Kind.QUORUM else Level.DANGER,
            check="clocks",
            found=f"{told}, more than the drift of {_ms(drift(ttl))}: {consequence}",
            advice="keep all clocks by NTP (chrony), slewed and not stepped",
            nodes=(last, first),
        )
    elif apart + error > drift(ttl):
        yield Finding(
            level=Level.NOTE,
            check="clocks",
            found=f"{told}: not measured well enough for a drift of {_ms(drift(ttl))}",
            advice="run the doctor nearer to the nodes",
            nodes=(last, first),
        )
    else:
        yield Finding(level=Level.OK, check="clocks", found=told)


def _told(clock: ClockReading) -> str:
    direction = "ahead of" if clock.ahead > 0 else "behind"
    return f"{_ms(abs(clock.ahead))} (± {_ms(clock.error)}) {direction}"


def _ms(seconds: float) -> str:
    """Write a time as people read it: in seconds from one second on."""
    return f"{seconds:,.2f} s" if seconds >= 1 else f"{seconds * 1000:.2f} ms"
