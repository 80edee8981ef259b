"""What the doctor says of the votes on a quorum, and what a client meets there."""

import re
import time
from typing import Any

import pytest
from anyio import to_thread

from aiodistlock import AcquireTimeout, LockClient, StoreUnavailable
from aiodistlock.testing.embedded import EmbeddedRedis
from tests.integrations.doctor_command import MARKER, Start, client, examined, level, trust


async def asked(nodes: list[EmbeddedRedis], *args: str) -> dict[str, Any]:
    """Run the doctor, which has an event loop of its own."""
    return await to_thread.run_sync(lambda: examined(*(each.url for each in nodes), *args))


def found(report: dict[str, Any], check: str) -> list[dict[str, Any]]:
    """All findings of one check, the worst first."""
    return [each for each in report["findings"] if each["check"] == check]


async def is_granted(nodes: list[EmbeddedRedis]) -> bool:
    """Tell whether a client that starts now gets a lock."""
    urls = [each.url for each in nodes]
    async with LockClient.from_url(urls, unavailable_after=0.5) as locks:
        try:
            async with locks.lock("a", ttl=5.0):
                return True
        except (AcquireTimeout, StoreUnavailable):
            return False


def flush(*nodes: EmbeddedRedis) -> None:
    """Have nodes lose their data."""
    for each in nodes:
        with client(each) as redis:
            redis.flushall()


def mark(marker: str, *nodes: EmbeddedRedis) -> None:
    """Put something into the markers of nodes."""
    for each in nodes:
        with client(each) as redis:
            redis.set(MARKER, marker)


def seconds(told: str) -> int:
    """Read for how long a finding says that it lasts."""
    (number,) = re.findall(r"for (\d+) s more", told)
    return int(number)


async def test_a_new_quorum_works_at_once(start: Start) -> None:
    """Nobody has asked any node: no danger and no warning, and the doctor leaves it so."""
    nodes = [start() for _ in range(5)]
    for _ in range(2):
        report = await asked(nodes)
        assert level(report, "quarantine") == report["verdict"] == "note"
        assert found(report, "majority") == []
    assert await is_granted(nodes)
    assert found(await asked(nodes), "quarantine") == []


async def test_a_new_quorum_that_is_not_complete_grants_nothing(start: Start) -> None:
    """One node is missing, so nobody can tell that all are new: first said, then met."""
    nodes = [start() for _ in range(5)]
    nodes[0].kill()
    report = await asked(nodes)
    (danger,) = found(report, "majority")
    assert danger["level"] == "danger"
    assert "until 60 s after a client first asks" in danger["found"]
    assert "trusted at once" in danger["advice"]
    assert not await is_granted(nodes)
    (danger,) = found(await asked(nodes), "majority")
    assert 30 < seconds(danger["found"]) <= 60


async def test_a_majority_that_lost_its_data_is_a_danger(start: Start) -> None:
    """Three of five are flushed: no lock until 60 s after somebody asks, then for the rest."""
    nodes = [start() for _ in range(5)]
    assert await is_granted(nodes)
    flush(*nodes[:3])
    (danger,) = found(await asked(nodes), "majority")
    assert danger["level"] == "danger"
    assert "2 of 5 nodes vote (3 without data)" in danger["found"]
    assert "until 60 s after a client first asks" in danger["found"]
    assert not await is_granted(nodes)
    report = await asked(nodes)
    (danger,) = found(report, "majority")
    assert 30 < seconds(danger["found"]) <= 60
    assert {each["level"] for each in found(report, "quarantine")} == {"warning"}


@pytest.mark.parametrize(("lost", "majority"), [(1, []), (2, ["warning"])])
async def test_a_minority_that_lost_its_data_is_a_warning(
    start: Start, lost: int, majority: list[str]
) -> None:
    """The others go on; the nodes are named, and for how long they give no vote."""
    nodes = [start() for _ in range(5)]
    assert await is_granted(nodes)
    flush(*nodes[:lost])
    report = await asked(nodes)
    (warning,) = found(report, "quarantine")
    assert warning["level"] == report["verdict"] == "warning"
    assert warning["nodes"] == [f"127.0.0.1:{each.port}" for each in nodes[:lost]]
    assert "60 s (quarantine) after a client first asks" in warning["found"]
    assert await is_granted(nodes)
    report = await asked(nodes)
    told = found(report, "quarantine")
    assert all(30 < seconds(each["found"]) <= 60 for each in told)
    assert [each["level"] for each in found(report, "majority")] == majority


async def test_the_server_clock_tells_how_long_it_takes(start: Start) -> None:
    """The node that is needed last decides; a marker of the past is a node that votes."""
    nodes = [start() for _ in range(5)]
    now_us = time.time_ns() // 1000
    for node, seconds_left in zip(nodes, (-5, 20, 40, 50, 30), strict=True):
        mark(str(now_us + seconds_left * 1_000_000), node)
    (danger,) = found(await asked(nodes), "majority")
    assert "1 of 5 nodes votes" in danger["found"]
    # The second of those that are away has to come back, after 30 s.
    assert 20 < seconds(danger["found"]) <= 30
    mark(str(now_us - 1), *nodes[1:4])
    assert found(await asked(nodes), "majority") == []
    assert await is_granted(nodes)


async def test_what_is_no_time_is_a_node_that_votes(start: Start) -> None:
    """The scripts take it for a quarantine that is over, so it is no finding."""
    nodes = [start() for _ in range(3)]
    for node, marker in zip(nodes, ("", "no time", "nan"), strict=True):
        mark(marker, node)
    report = await asked(nodes)
    assert found(report, "majority") == found(report, "quarantine") == []
    assert await is_granted(nodes)


async def test_a_quarantine_that_never_ends_is_doubted(start: Start) -> None:
    """A clock that was set back, or a client with a quarantine of its own: said with advice."""
    nodes = [start() for _ in range(3)]
    trust(*nodes[1:])
    mark(str(time.time_ns() // 1000 + 86_400_000_000), nodes[0])
    (warning,) = found(await asked(nodes), "quarantine")
    assert "for 24 h more, longer than the quarantine of 60 s" in warning["found"]
    assert f"DEL {MARKER}" in warning["advice"]


@pytest.mark.parametrize(("broken", "majority"), [(1, "warning"), (2, "danger")])
async def test_a_marker_that_is_none_is_a_node_that_is_missing(
    start: Start, broken: int, majority: str
) -> None:
    """Something else has its key: the node gives no vote until that is deleted."""
    nodes = [start() for _ in range(3)]
    trust(*nodes)
    for each in nodes[:broken]:
        with client(each) as redis:
            redis.delete(MARKER)
            redis.lpush(MARKER, "something else")
    report = await asked(nodes)
    assert level(report, "majority") == report["verdict"] == majority
    (warning,) = [each for each in found(report, "permissions") if each["level"] != "ok"]
    assert (warning["level"], len(warning["nodes"])) == ("warning", broken)
    assert f"DEL {MARKER}" in warning["advice"]
    assert await is_granted(nodes) == (broken == 1)


@pytest.mark.parametrize(("ttl", "warns"), [(60, False), (61, True)])
async def test_leases_longer_than_the_quarantine_need_a_longer_one(
    start: Start, ttl: int, warns: bool
) -> None:
    """A client refuses them as it is, and a node that is new waits for so long."""
    nodes = [start() for _ in range(3)]
    trust(*nodes[1:])
    report = await asked(nodes, "--ttl", str(ttl))
    told = {each["found"]: each["advice"] for each in found(report, "quarantine")}
    assert any(f"until {ttl} s (quarantine)" in each for each in told)
    assert any(f"quarantine={ttl} or more" in each for each in told.values()) == warns
    urls = [each.url for each in nodes]
    async with LockClient.from_url(urls) as short, LockClient.from_url(urls, quarantine=61) as long:
        long.lock("a", ttl=ttl)
        if warns:
            with pytest.raises(ValueError, match="quarantine"):
                short.lock("a", ttl=ttl)
        else:
            short.lock("a", ttl=ttl)


async def test_a_counter_that_is_ahead_is_told_of_its_node(start: Start) -> None:
    """Whichever hash slot it is of; of a small step, and of what is no counter, nothing is said."""
    nodes = [start() for _ in range(3)]
    trust(*nodes)
    now = int(time.time() * 1e6)
    for each, ahead in zip(nodes, (3600.0, 0.3, 0.0), strict=True):
        with client(each) as redis:
            redis.set("aiodistlock:fence:{017s}", now + int(ahead * 1e6))
            redis.set("aiodistlock:fence:{0000}", now)
            redis.set("aiodistlock:fence:{0001}", "nobody knows")
            redis.set("aiodistlock:fence:{0002}", 2**60)
            redis.rpush("aiodistlock:fence:{0003}", "x")
    (told,) = found(await asked(nodes), "fence counter")
    assert told["level"] == "warning"
    assert told["nodes"] == [f"127.0.0.1:{nodes[0].port}"]
    assert "within a process" not in told["found"]
