"""What the doctor makes of one Redis: every case by its facts, without Redis."""

from itertools import product

import pytest

from aiodistlock.doctor.checks.diagnosis import diagnose
from aiodistlock.doctor.facts import ClockReading, Denial, Deployment, Kind
from aiodistlock.doctor.findings import Finding, Level, worst
from tests.unit.doctor_facts import (
    changed,
    levels,
    node,
    quorum,
    sentinels,
    single,
    with_replicas,
)

OK, NOTE, WARNING, DANGER = Level


def test_nothing_is_wrong_with_what_is_right() -> None:
    """A durable Redis and a quorum of three on three hosts give no warning and no note."""
    assert worst(diagnose(single(node()), 10.0)) is OK
    three = quorum(node("a:1"), node("b:1"), node("c:1"))
    assert worst(diagnose(three, 10.0)) is OK


EVICTING = [
    *(f"{what}-{how}" for what in ("allkeys", "volatile") for how in ("lru", "lfu", "random")),
    "volatile-ttl",
]


@pytest.mark.parametrize(
    ("policy", "limit"),
    list(product([*EVICTING, "noeviction"], ["0", "1000000"])),
)
def test_every_policy_that_evicts_is_a_danger(policy: str, limit: str) -> None:
    """Locks have ttls, so volatile-* drops them too; without a limit it is a matter of time."""
    (level,) = levels(single(node(maxmemory_policy=policy, maxmemory=limit)), "eviction")
    evicts = DANGER if limit != "0" else WARNING
    assert level is (OK if policy == "noeviction" else evicts)


@pytest.mark.parametrize(("used", "found"), [("890", []), ("910", [WARNING])])
def test_memory_that_runs_out_is_told(used: str, found: list[Level]) -> None:
    """Under noeviction a full Redis grants no lock."""
    assert levels(single(node(maxmemory="1000", info={"used_memory": used})), "memory") == found


def test_what_config_hides_is_taken_from_info() -> None:
    """Where CONFIG GET is forbidden, INFO still tells of eviction and of the file."""
    told = {"maxmemory": "1000", "maxmemory_policy": "allkeys-lru", "aof_enabled": "0"}
    hidden = changed(node(info=told), settings={}, refused={"CONFIG GET": "NOPERM"})
    assert levels(single(hidden), "eviction") == [DANGER]
    assert levels(single(hidden), "persistence") == [NOTE]
    assert levels(single(hidden), "not checked") == [NOTE]


PERSISTENCE = {
    # appendonly, appendfsync, save: single, quorum
    ("yes", "always", ""): (OK, OK),
    ("yes", "everysec", "3600 1"): (NOTE, WARNING),
    ("yes", "no", ""): (WARNING, WARNING),
    # Half a memory is worse for a quorum than none: quarantine begins with an empty node.
    ("no", "everysec", "3600 1"): (WARNING, DANGER),
    ("no", "everysec", ""): (WARNING, NOTE),
}


@pytest.mark.parametrize(("stored", "expected"), list(PERSISTENCE.items()))
def test_what_a_restart_forgets_is_judged(
    stored: tuple[str, str, str], expected: tuple[Level, Level]
) -> None:
    """Each way to keep data, for one Redis and for a node of a quorum."""
    aof, fsync, save = stored
    facts = node(appendonly=aof, appendfsync=fsync, save=save)
    assert levels(single(facts), "persistence") == [expected[0]]
    assert levels(quorum(facts, node("b:1"), node("c:1")), "persistence")[0] == expected[1]


def test_a_primary_that_restarts_empty_empties_its_replicas() -> None:
    """No file and replicas: an automatic restart frees every lock."""
    facts = node(appendonly="no", info=with_replicas(2))
    assert levels(single(facts), "persistence") == [DANGER]


def test_a_disk_that_fails_is_told() -> None:
    """After a failed write Redis may refuse to grant locks."""
    for field in ("aof_last_write_status", "rdb_last_bgsave_status"):
        assert levels(single(node(info={field: "err"})), "disk") == [WARNING]
        assert levels(single(node(info={field: "ok"})), "disk") == []


MIN_REPLICAS = {
    # min-replicas-to-write, max-lag, replicas: single, sentinel
    ("0", "10", 0): ([], [DANGER]),
    ("0", "10", 2): ([WARNING], [DANGER]),
    ("1", "0", 2): ([WARNING], [DANGER]),
    ("1", "1", 2): ([OK], [OK]),
    ("2", "1", 2): ([NOTE, OK], [NOTE, OK]),
    ("3", "1", 2): ([DANGER], [DANGER]),
}


@pytest.mark.parametrize(("replicated", "expected"), list(MIN_REPLICAS.items()))
def test_a_primary_that_goes_on_alone_is_found(
    replicated: tuple[str, str, int], expected: tuple[list[Level], list[Level]]
) -> None:
    """min-replicas-* against the replicas there are, alone and under Sentinel."""
    wanted, lag, replicas = replicated
    facts = node(
        min_replicas_to_write=wanted, min_replicas_max_lag=lag, info=with_replicas(replicas)
    )
    assert levels(single(facts), "min-replicas") == expected[0]
    assert levels(sentinels(primary=facts), "min-replicas") == expected[1]


@pytest.mark.parametrize(
    ("delay", "diskless", "wanted", "expected"),
    [
        ("5", "yes", "1", [WARNING]),
        ("0", "yes", "1", []),
        ("5", "no", "1", []),
        ("5", "yes", "0", []),
    ],
)
def test_a_primary_that_is_late_to_have_a_replica_is_found(
    delay: str, diskless: str, wanted: str, expected: list[Level]
) -> None:
    """It writes nothing without one, and waits before it copies itself."""
    facts = node(
        min_replicas_to_write=wanted,
        min_replicas_max_lag="1",
        repl_diskless_sync=diskless,
        repl_diskless_sync_delay=delay,
        info=with_replicas(2),
    )
    assert levels(single(facts), "resync") == expected
    assert levels(sentinels(primary=facts), "resync") == expected


@pytest.mark.parametrize(
    ("state", "lag", "expected"),
    [("online", 0, [OK]), ("wait_bgsave", 0, [WARNING]), ("online", 11, [WARNING])],
)
def test_a_replica_that_lags_is_found(state: str, lag: int, expected: list[Level]) -> None:
    """Only replicas that keep up can acknowledge."""
    facts = single(node(info=with_replicas(1, state, lag)))
    assert levels(facts, "replicas") == expected


def test_a_replica_takes_no_locks() -> None:
    """The URL of a replica is a danger, alone and in a quorum."""
    replica = node("b:1", info={"role": "slave", "master_host": "a", "master_port": "1"})
    assert levels(single(replica), "role") == [DANGER]
    assert levels(quorum(node("a:1"), replica, node("c:1")), "role") == [DANGER]


VERSIONS = {
    # version: single, cluster
    "6.0.16": (DANGER, DANGER),
    "6.2.0": (NOTE, WARNING),
    "6.2.14": (NOTE, WARNING),
    "7.0.0": (NOTE, OK),
    "7.2.0": (OK, OK),
    "8.0.1": (OK, OK),
}


@pytest.mark.parametrize(("version", "expected"), list(VERSIONS.items()))
def test_what_a_version_lacks_is_told(version: str, expected: tuple[Level, Level]) -> None:
    """Scripts need 6.2, sharded pub/sub 7.0, WAITAOF 7.2."""
    facts = node(info={"redis_version": version})
    assert levels(single(facts), "version") == [expected[0]]
    cluster = Deployment(kind=Kind.CLUSTER, nodes=[facts])
    assert levels(cluster, "version") == [expected[1]]


DENIALS = {
    "EVALSHA": DANGER,
    "EVAL": DANGER,
    "script acquire": DANGER,
    "PUBLISH": WARNING,
    "SPUBLISH": WARNING,
    "SUBSCRIBE": WARNING,
    "SSUBSCRIBE": WARNING,
    "WAIT": NOTE,
    "WAITAOF": NOTE,
}


@pytest.mark.parametrize(("what", "level"), list(DENIALS.items()))
def test_each_missing_permission_has_its_consequence(what: str, level: Level) -> None:
    """What locks cannot do without is a danger, what they can is not."""
    facts = changed(node(), denials=[Denial(what, "NOPERM no")], user="app")
    (finding,) = [each for each in diagnose(single(facts), 10.0) if each.check == "permissions"]
    assert finding.level is level
    assert "user 'app'" in finding.advice
    assert what in finding.found


def test_a_refusal_that_passes_asks_for_no_permission() -> None:
    """A full or busy server grants no lock, but that is not for the ACL to mend."""
    facts = changed(node(), denials=[Denial("script acquire", "OOM", passing=True)])
    (finding,) = [each for each in diagnose(single(facts), 10.0) if each.check == "permissions"]
    assert finding.level is DANGER
    assert "grant" not in finding.advice


PASSING = ("BUSY", "LOADING", "MISCONF", "NOREPLICAS", "OOM", "READONLY", "TRYAGAIN", "?")


@pytest.mark.parametrize("code", PASSING)
def test_each_refusal_that_passes_has_its_advice(code: str) -> None:
    """The server's word decides what to do; what was tried, whether locks are in danger."""
    told = f"{code} and more"

    def found(what: str, of_quorum: bool = False) -> Finding:
        refusing = changed(node(), denials=[Denial(what, told, passing=True)])
        others = (node("b:1"), node("c:1"))
        deployment = quorum(refusing, *others) if of_quorum else single(refusing)
        (finding,) = [
            each
            for each in diagnose(deployment, 10.0)
            if each.check == "permissions" and each.level is not OK
        ]
        return finding

    assert found("script acquire").level is DANGER
    assert found("script vote", of_quorum=True).level is WARNING
    assert found("PUBLISH").level is NOTE
    assert len({found(what).advice for what in ("script acquire", "PUBLISH")}) == 1
    assert ("see what the server says" in found("EVALSHA").advice) == (code == "?")


def test_scripts_that_fail_alike_are_one_finding() -> None:
    """A key that is denied to all scripts is told once, with the server's words once."""
    denials = [Denial(f"script {what}", "NOPERM key") for what in ("acquire", "renew", "release")]
    found = diagnose(single(changed(node(), denials=denials)), 10.0)
    (finding,) = [each for each in found if each.check == "permissions"]
    assert finding.found.count("NOPERM key") == 1


def test_settings_that_touch_connections_are_told() -> None:
    """An idle timeout, a crowded server, one without RESP3, one that loads."""
    assert levels(single(node(timeout="300")), "timeout") == [NOTE]
    crowded = node(maxclients="100", info={"connected_clients": "91"})
    assert levels(single(crowded), "maxclients") == [WARNING]
    assert levels(single(changed(node(), resp3=False)), "protocol") == [NOTE]
    assert levels(single(node(info={"loading": "1"})), "loading") == [WARNING]


@pytest.mark.parametrize(
    ("ahead", "found"),
    [(None, []), (-5.0, []), (0.002, []), (1.0, []), (1.5, [WARNING]), (1e9, [WARNING])],
)
@pytest.mark.parametrize("kind", [Kind.SINGLE, Kind.QUORUM])
def test_a_counter_far_ahead_of_the_clock_is_told(
    kind: Kind, ahead: float | None, found: list[Level]
) -> None:
    """A little passes by itself before anybody has read of it."""
    nodes = [changed(node(place), counter_ahead=ahead) for place in ("a:1", "b:1", "c:1")]
    deployment = single(nodes[0]) if kind is Kind.SINGLE else quorum(*nodes)
    assert levels(deployment, "fence counter") == found


@pytest.mark.parametrize(
    ("clock", "advice"), [(-20.0, "set the clock right"), (0.0, "leave"), (20.0, "leave")]
)
def test_a_clock_that_is_behind_is_to_be_set_right_and_no_other(clock: float, advice: str) -> None:
    """One that agrees with ours was wrong before: its counter is as it should be."""
    there = changed(node(), counter_ahead=20.0, clock=ClockReading(clock, 0.01))
    (told,) = [each for each in diagnose(single(there), 10.0) if each.check == "fence counter"]
    assert advice in told.advice
