"""What the doctor makes of what was measured: room, time for a Cluster, or others' work."""

import pytest

from aiodistlock.doctor.checks.diagnosis import diagnose
from aiodistlock.doctor.facts import Cost, Kind, NodeFacts
from aiodistlock.doctor.findings import Finding, Level
from tests.unit.doctor_facts import changed, clustered, node, quorum, sentinels, single

IDLE = Cost(scripts=2_000, in_scripts=0.02, core=0.05, listeners=3, locks=120, memory=24 * 1024)
FULL = Cost(scripts=60_000, in_scripts=0.5, core=0.8)


def costing(cost: Cost | None, place: str = "a:1") -> NodeFacts:
    """A Redis with nothing wrong with it, on which this was measured."""
    return changed(node(place), cost=cost)


def told(cost: Cost | None) -> Finding:
    """The one finding about a Redis by itself."""
    (finding,) = (each for each in diagnose(single(costing(cost)), 10.0) if each.check == "cost")
    return finding


def test_all_that_was_measured_is_told() -> None:
    """Scripts, time, listeners, keys, bytes; and how far away a Cluster is."""
    finding = told(IDLE)
    assert (finding.level, finding.advice) == (Level.OK, "")
    assert finding.found == (
        "2,000 scripts a second take 2.0% of a core (in use: 5.0%); 3 lock clients listening; "
        "keys of locks: about 120, 24.0 KB. It bears about 10 times as much before it is busy for "
        "half of the time"
    )


@pytest.mark.parametrize(
    ("cost", "words"),
    [
        (Cost(listeners=1), "1 lock client listening"),
        (Cost(locks=1_200), "keys of locks: about 1,200"),
        (Cost(locks=0, memory=0), "keys of locks: about 0, 0.0 KB"),
        (Cost(scripts=0.0, in_scripts=0.0), "0 scripts a second take 0.0% of a core"),
        (Cost(scripts=9.0, in_scripts=0.0, core=0.002), "It bears many times as much"),
        (Cost(scripts=9.0, in_scripts=0.1, core=0.3), "It bears not twice as much"),
    ],
)
def test_what_is_not_known_is_left_out(cost: Cost, words: str) -> None:
    """Each alone is a sentence; what is missing is not said to be nothing."""
    finding = told(cost)
    assert finding.level is Level.OK
    assert words in finding.found
    assert "None" not in finding.found


@pytest.mark.parametrize("cost", [None, Cost()])
def test_nothing_is_made_of_nothing(cost: Cost | None) -> None:
    """A Redis where nothing may be asked has no finding."""
    findings = diagnose(single(costing(cost)), 10.0)
    assert not [each for each in findings if each.check == "cost"]


@pytest.mark.parametrize(
    ("cost", "busy"),
    [
        (Cost(scripts=1.0, in_scripts=0.34), True),  # no core told: half as much beside them
        (Cost(scripts=1.0, in_scripts=0.33), False),
        (Cost(scripts=1.0, in_scripts=0.34, core=0.49), False),
        (Cost(scripts=1.0, in_scripts=0.34, core=0.51), True),
        # A host that is short of cores: the thread has few of them, and yet no time.
        (Cost(scripts=1.0, in_scripts=0.6, core=0.2), True),
    ],
)
def test_half_of_a_core_is_when_it_is_time(cost: Cost, busy: bool) -> None:
    """By whichever of the two says more."""
    finding = told(cost)
    assert (finding.level is Level.WARNING) is busy
    assert ("it is time for a Cluster" in finding.advice) is busy


def test_others_work_is_no_reason_for_a_cluster() -> None:
    """Where scripts are the smaller part of what keeps it busy, locks want one of their own."""
    finding = told(Cost(scripts=500, in_scripts=0.1, core=0.9))
    assert finding.level is Level.WARNING
    assert "other work" in finding.found
    assert finding.advice == "give the locks a Redis of their own"


def test_the_way_out_is_that_of_the_deployment() -> None:
    """A Cluster gets another primary; a quorum cannot be spread."""
    full = costing(FULL)
    advice = {
        deployment.kind: finding.advice
        for deployment in (
            single(full),
            sentinels(primary=full),
            clustered([full, node("b:1"), node("c:1")]),
            quorum(full, costing(FULL, "b:1"), costing(FULL, "c:1")),
        )
        for finding in diagnose(deployment, 10.0)
        if finding.check == "cost"
    }
    assert set(advice) == set(Kind)
    assert "time for a Cluster" in advice[Kind.SENTINEL]
    assert "add a primary" in advice[Kind.CLUSTER]
    assert "a quorum of their own" in advice[Kind.QUORUM]
