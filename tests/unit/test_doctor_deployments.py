"""What the doctor makes of several servers together, and of the way to them."""

from collections.abc import Callable

import pytest

from aiodistlock.console.numbers import quantile
from aiodistlock.doctor.checks.diagnosis import diagnose
from aiodistlock.doctor.facts import (
    ClockReading,
    ClusterFacts,
    Deployment,
    Kind,
    NodeFacts,
    RoundTrips,
    SentinelFacts,
)
from aiodistlock.doctor.findings import Finding, Level, merged, worst
from tests.unit.doctor_facts import (
    changed,
    clustered,
    levels,
    node,
    quorum,
    sentinels,
    single,
    with_replicas,
)

OK, NOTE, WARNING, DANGER = Level


ROUND_TRIPS = {
    # p50, p99 at a ttl of 10: single, quorum
    (0.001, 0.4): (OK, OK),
    (0.001, 0.6): (WARNING, WARNING),
    (0.6, 0.6): (WARNING, DANGER),
    (3.4, 3.4): (DANGER, DANGER),
}


@pytest.mark.parametrize(("times", "expected"), list(ROUND_TRIPS.items()))
def test_round_trips_are_compared_with_the_ttl(
    times: tuple[float, float], expected: tuple[Level, Level]
) -> None:
    """A vote has 5 % of the ttl, a renewal a third of it."""
    slow = changed(node(), round_trips=RoundTrips(*times, 100))
    assert levels(single(slow), "round trip") == [expected[0]]
    assert levels(quorum(slow, node("b:1"), node("c:1")), "round trip") == [expected[1]]


def test_a_long_fork_is_told() -> None:
    """A server that stood still for longer than a vote may take will do so again."""
    assert levels(single(node(info={"latest_fork_usec": "600000"})), "latency") == [WARNING]
    assert levels(single(node(info={"latest_fork_usec": "400000"})), "latency") == []


@pytest.mark.parametrize(
    ("ahead", "error", "level"),
    [
        (0.05, 0.001, OK),
        (-0.5, 0.001, NOTE),
        (0.15, 0.1, OK),  # it may be less than the drift of 0.102
        (1000.0, 0.001, WARNING),
        (-1000.0, 0.001, WARNING),
    ],
)
def test_a_clock_is_compared_with_the_hosts(ahead: float, error: float, level: Level) -> None:
    """What is surely more than the drift is told, what nobody can be keeping is a warning."""
    facts = changed(node(), clock=ClockReading(ahead, error))
    assert levels(single(facts), "clock") == [level]


@pytest.mark.parametrize(
    ("ahead", "error", "in_quorum", "under_sentinel"),
    [
        (0.05, 0.001, OK, OK),
        (0.2, 0.001, WARNING, DANGER),
        (-0.2, 0.001, WARNING, DANGER),
        (0.05, 0.06, NOTE, NOTE),
    ],
)
def test_clocks_are_compared_with_each_other(
    ahead: float, error: float, in_quorum: Level, under_sentinel: Level
) -> None:
    """Apart by more than the drift; or measured too badly to tell, which is told."""
    other = changed(node("b:1"), clock=ClockReading(ahead, error))
    assert levels(quorum(node("a:1"), other, node("c:1")), "clocks") == [in_quorum]
    assert levels(sentinels(replica=other), "clocks") == [under_sentinel]


@pytest.mark.parametrize("size", range(2, 8))
def test_an_even_quorum_is_a_waste(size: int) -> None:
    """2, 4 and 6 nodes survive no more losses than 1, 3 and 5."""
    nodes = [node(f"host{number}:1") for number in range(size)]
    assert levels(quorum(*nodes), "size") == [WARNING if size % 2 == 0 else OK]


@pytest.mark.parametrize(("size", "up"), [(n, u) for n in range(2, 8) for u in range(1, n + 1)])
def test_nodes_that_are_down_are_counted(size: int, up: int) -> None:
    """No majority is a danger, a bare one a warning."""
    nodes = [
        changed(node(f"host{number}:1"), error=None if number < up else "gone")
        for number in range(size)
    ]
    needed = size // 2 + 1
    expected = [DANGER] if up < needed else [WARNING] if up == needed < size else []
    assert levels(quorum(*nodes), "majority") == expected


def test_nodes_that_are_not_independent_are_found() -> None:
    """One Redis under two names, two on one host, one of a Cluster."""
    twin = node("c:1", info={"run_id": "a:1"})
    assert levels(quorum(node("a:1"), node("b:1"), twin), "independent") == [DANGER]
    assert levels(quorum(node("a:1"), node("a:2"), node("c:1")), "independent") == [NOTE]
    clustered_node = node("c:1", info={"cluster_enabled": "1"})
    assert levels(quorum(node("a:1"), node("b:1"), clustered_node), "independent") == [DANGER]
    replicated = node("c:1", info=with_replicas(1))
    assert levels(quorum(node("a:1"), node("b:1"), replicated), "replicas") == [WARNING]


def test_good_sentinels_are_good() -> None:
    """Three that agree, replicas that keep up: nothing but a finding that says so."""
    assert worst(diagnose(sentinels(), 10.0)) is OK


SENTINELS = {
    "one is down": (lambda f: SentinelFacts(place=f.place, error="gone"), "sentinels", WARNING),
    "one disagrees": (
        lambda f: SentinelFacts(place=f.place, primary="z:1", master=f.master),
        "sentinels",
        DANGER,
    ),
    "no quorum": (
        lambda f: SentinelFacts(place=f.place, primary="a:1", quorum_problem="NOQUORUM"),
        "failover",
        DANGER,
    ),
    "thinks it is down": (
        lambda f: SentinelFacts(place=f.place, primary="a:1", master={"flags": "master,s_down"}),
        "failover",
        DANGER,
    ),
}


@pytest.mark.parametrize(("change", "check", "level"), SENTINELS.values(), ids=SENTINELS)
def test_what_is_wrong_with_a_sentinel_is_told(
    change: Callable[[SentinelFacts], SentinelFacts], check: str, level: Level
) -> None:
    """Down, of another opinion, without a quorum, or without sight of the primary."""
    assert levels(sentinels(change=change), check)[0] is level


@pytest.mark.parametrize(
    ("master", "check", "level"),
    [
        ({"num-other-sentinels": "1"}, "sentinels", WARNING),
        ({"num-slaves": "0"}, "failover", WARNING),
        ({"down-after-milliseconds": "30000"}, "failover", WARNING),
        ({"down-after-milliseconds": "500"}, "min-replicas", WARNING),
    ],
)
def test_what_is_wrong_with_a_failover_is_told(
    master: dict[str, str], check: str, level: Level
) -> None:
    """Too few Sentinels, no replica, detection over the ttl, or under the lag allowed."""
    assert levels(sentinels(master=master), check)[0] is level


THREE = [node(f"{host}:1") for host in "abc"]


def test_a_good_cluster_is_good() -> None:
    """Three primaries with replicas, all slots covered."""
    assert worst(diagnose(clustered(THREE), 10.0)) is OK


@pytest.mark.parametrize(
    ("deployment", "check", "level"),
    [
        (clustered(THREE, cluster_state="fail"), "cluster", DANGER),
        (clustered(THREE, cluster_slots_ok="16383"), "cluster", DANGER),
        (clustered(THREE[:2]), "failover", WARNING),
        (clustered(THREE, plain=True), "client", NOTE),
        (clustered([node(cluster_require_full_coverage="yes"), *THREE[1:]]), "coverage", NOTE),
        (clustered([node(cluster_node_timeout="15000"), *THREE[1:]]), "failover", WARNING),
        (clustered([node(info=with_replicas(1)), *THREE[1:]]), "min-replicas", WARNING),
    ],
)
def test_what_is_wrong_with_a_cluster_is_told(
    deployment: Deployment, check: str, level: Level
) -> None:
    """State, slots, primaries, the client that was given, coverage and detection."""
    assert levels(deployment, check)[0] is level


def test_only_clocks_of_one_shard_are_compared() -> None:
    """A failover stays within a shard; other shards' clocks are compared with the host's."""
    late = changed(node("a:1"), clock=ClockReading(0.5, 0.001))
    found = clustered([late, *THREE[1:]])
    assert levels(found, "clocks")[0] is DANGER
    among_primaries = Deployment(
        kind=Kind.CLUSTER,
        nodes=found.nodes,
        cluster=ClusterFacts(info={}, replicas={each.place: [] for each in found.nodes}),
    )
    assert levels(among_primaries, "clocks") == []
    assert levels(among_primaries, "clock") == [NOTE]


@pytest.mark.parametrize("kind", Kind)
def test_a_node_that_says_nothing_is_told(kind: Kind) -> None:
    """What is there to be survived is a warning in a quorum; elsewhere locks stop."""
    silent = NodeFacts(place="a:1", error="does not answer within 3 s")
    found = diagnose(Deployment(kind=kind, nodes=[silent]), 10.0)
    (finding,) = [each for each in found if each.check == "reachable"]
    assert finding.level is (WARNING if kind is Kind.QUORUM else DANGER)


def test_findings_alike_are_one_with_all_their_nodes() -> None:
    """Ten nodes with one problem are one line; the worst comes first."""
    same = [Finding(level=NOTE, check="x", found="y", nodes=(f"{n}",)) for n in range(3)]
    bad = Finding(level=DANGER, check="x", found="y")
    assert merged([*same, bad]) == [
        bad,
        Finding(level=NOTE, check="x", found="y", nodes=("0", "1", "2")),
    ]


@pytest.mark.parametrize(
    ("count", "share", "value"), [(1, 0.99, 1), (2, 0.5, 1), (100, 0.5, 50), (100, 0.99, 99)]
)
def test_a_quantile_is_a_value_that_was_measured(count: int, share: float, value: int) -> None:
    """The nearest rank: half of 1…100 are at most 50."""
    assert quantile(range(1, count + 1), share) == value
