"""``aiodistlock doctor``: the real command, on real servers set up well and badly."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from aiodistlock import LockClient
from aiodistlock.testing.embedded import EmbeddedRedis, TlsFiles
from tests import servers
from tests.integrations.doctor_command import (
    DURABLE,
    PASSWORD,
    Start,
    client,
    doctor,
    examined,
    level,
    refused,
    trust,
)
from tests.redis.shifted import build_shim, shifted_server


def test_a_durable_redis_is_fit(start: Start) -> None:
    """No danger and no warning, status 0, and not a key is left behind."""
    server = start(*DURABLE)
    report = examined(server.url)
    assert report["verdict"] in ("ok", "note"), report
    assert report["deployment"] == "single"
    for check in ("permissions", "eviction", "persistence", "round trip", "clock"):
        assert level(report, check) == "ok"
    (node,) = report["nodes"]
    assert (node["role"], node["error"]) == ("primary", None)
    assert 0 < node["round_trip_p50"] <= node["round_trip_p99"]
    assert abs(node["clock_ahead"]) <= 0.1
    with client(server) as redis:
        assert redis.keys() == [b"aiodistlock:fence"]


def test_the_runs_own_server_can_be_examined(redis_url: str, namespace: str) -> None:
    """Whatever Redis the suite runs on: locks can be taken, and nothing is left."""
    report = examined(redis_url, "--namespace", namespace)
    assert level(report, "permissions") == "ok"


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_eviction_is_a_danger(start: Start, policy: str) -> None:
    """The worst comes first, says what to do, and makes the status 1."""
    server = start(*DURABLE, "--maxmemory", "100mb", "--maxmemory-policy", policy)
    first = examined(server.url)["findings"][0]
    assert (first["level"], first["check"]) == ("danger", "eviction")
    assert "noeviction" in first["advice"]


def test_a_table_fits_a_terminal(start: Start) -> None:
    """80 columns, the verdict last, and no word cut off."""
    server = start("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    done = doctor(server.url)
    assert (done.returncode, done.stderr) == (1, "")
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    assert max(map(len, lines)) <= 80
    assert lines[-1] == "✗ Not fit for locks as it is: 1 danger, 1 warning."
    words = " ".join(done.stdout.split())
    assert "a held lock goes, and a second holder comes → set maxmemory-policy" in words


NEEDED = (
    "+eval +evalsha +get +set +del +exists +pexpire +pttl +time "
    "+zadd +zcard +zrange +zrank +zrem +zrevrange +zscore ~lock:* "
    "~aiodistlock:fence* ~aiodistlock:queue:* ~aiodistlock:void:*"
)
MESSAGES = "+publish +subscribe &aiodistlock:inbox:*"
LEADERS = "~aiodistlock:leader:* &aiodistlock:leader:*"
MARKS = "~aiodistlock:done:*"
READERS = "~aiodistlock:readers:* ~aiodistlock:version:*"
RIGHTS = {
    # rights: level, what the finding names
    "enough": (f"{NEEDED} {MESSAGES} +wait", "note", "WAITAOF"),
    "no marks": (f"{NEEDED} {MESSAGES} {LEADERS}", "note", "nothing can be done once"),
    "no elections": (f"{NEEDED} {MESSAGES} {MARKS}", "note", "there can be no elections"),
    "no announcements": (
        f"{NEEDED} {MESSAGES} {MARKS} ~aiodistlock:leader:*",
        "note",
        "channels of elections",
    ),
    "no readers": (f"{NEEDED} {MESSAGES} {MARKS}", "note", "there can be no read/write locks"),
    "no versions": (
        f"{NEEDED} {MESSAGES} {MARKS} ~aiodistlock:readers:*",
        "note",
        "there can be no read/write locks",
    ),
    "all of it": (
        f"{NEEDED} {MESSAGES} {LEADERS} {MARKS} {READERS} +@all -info -config",
        "ok",
        "may do all",
    ),
    "no EVALSHA": (f"{NEEDED} {MESSAGES} -evalsha", "danger", "EVALSHA"),
    "no EVAL": (f"{NEEDED} {MESSAGES} -eval", "danger", "EVAL"),
    "no ZADD": (f"{NEEDED} {MESSAGES} -zadd", "danger", "script acquire"),
    "no DEL": (f"{NEEDED} {MESSAGES} -del", "danger", "script release"),
    "other keys": (f"{NEEDED} {MESSAGES} resetkeys ~app:*", "danger", "script acquire"),
    "no fence key": (f"{NEEDED} {MESSAGES} resetkeys ~lock:*", "danger", "script acquire"),
    "no PUBLISH": (f"{NEEDED} {MESSAGES} -publish", "warning", "PUBLISH"),
    "no SUBSCRIBE": (f"{NEEDED} {MESSAGES} -subscribe", "warning", "SUBSCRIBE"),
    "other channels": (f"{NEEDED} +publish +subscribe &app:*", "warning", "SUBSCRIBE"),
}


def test_each_missing_permission_is_found(start: Start) -> None:
    """What an ACL forbids is tried, not guessed; CONFIG and INFO may be forbidden as well."""
    server = start(*DURABLE)
    found = {}
    with client(server) as admin:
        for name, (rights, _, _) in RIGHTS.items():
            admin.flushall()  # what the user without DEL left
            admin.script_flush()  # or EVAL is not needed
            rules = ["reset", "on", f">{PASSWORD}", "resetchannels", *rights.split()]
            admin.execute_command("ACL", "SETUSER", "locker", *rules)
            url = server.url.replace("://", f"://locker:{PASSWORD}@")
            report = examined(url)
            assert PASSWORD not in json.dumps(report)
            assert level(report, "not checked") == "note"
            denied = [each for each in report["findings"] if each["check"] == "permissions"]
            found[name] = [(each["level"], each["found"]) for each in denied]
            # Without DEL the keys must expire by themselves.
            left = [key for key in admin.scan_iter() if not key.startswith(b"aiodistlock:fence")]
            assert all(0 < admin.pttl(key) <= 5_000 for key in left)
            assert name in {"no DEL", "no fence key"} or left == []
    for name, (_, expected, what) in RIGHTS.items():
        told = [words for found_level, words in found[name] if found_level == expected]
        assert name == "enough" or any(what in words for words in told), (name, found[name])
    assert not {"danger", "warning"} & {found_level for found_level, _ in found["enough"]}


def test_a_replica_is_no_place_for_locks(start: Start) -> None:
    """Its URL is a danger; its primary is named, and warned of going on alone."""
    primary = start(*DURABLE)
    replica = start(*DURABLE, "--replicaof", "127.0.0.1", str(primary.port))
    report = examined(replica.url)
    assert level(report, "role") == "danger"
    assert f"127.0.0.1:{primary.port}" in json.dumps(report)
    assert report["nodes"][0]["role"] == "replica"


def test_a_primary_that_lacks_its_replicas_grants_nothing(start: Start) -> None:
    """min-replicas-to-write without a replica: said by the setting and by the probe."""
    server = start(*DURABLE, "--min-replicas-to-write", "1")
    report = examined(server.url)
    assert level(report, "min-replicas") == "danger"
    assert level(report, "permissions") == "danger"


def test_a_full_redis_grants_nothing(start: Start) -> None:
    """What is refused for want of memory is told as such, not as a permission."""
    server = start(*DURABLE, "--maxmemory", "1")
    report = examined(server.url)
    (finding,) = [each for each in report["findings"] if each["check"] == "permissions"]
    assert finding["level"] == "danger"
    assert "no lock is granted now" in finding["found"]


def test_a_quorum_that_is_none_is_found_out(start: Start) -> None:
    """The same Redis twice, and a replica of another node: dangers both."""
    one, two = start(), start()
    replica = start("--replicaof", "127.0.0.1", str(one.port))
    again = one.url.replace("127.0.0.1", "localhost")
    report = examined(one.url, again, two.url, replica.url)
    assert report["deployment"] == "quorum"
    assert level(report, "independent") == "danger"
    assert level(report, "role") == "danger"
    assert level(report, "size") == "warning"


VOTES = {
    # rights: level, what the finding names
    "enough": (f"{NEEDED} {MESSAGES} +info ~aiodistlock:marker", "", ""),
    "no marker": (f"{NEEDED} {MESSAGES} +info", "danger", "the key aiodistlock:marker"),
    "no DEL": (f"{NEEDED} {MESSAGES} ~aiodistlock:marker -del", "danger", "script unvote"),
    "no PEXPIRE": (f"{NEEDED} {MESSAGES} ~aiodistlock:marker -pexpire", "danger", "script renew"),
    "no ZADD": (f"{NEEDED} {MESSAGES} ~aiodistlock:marker -zadd", "danger", "vote (wait)"),
    "no GET": (f"{NEEDED} {MESSAGES} ~aiodistlock:marker -get", "danger", "script marker"),
    "no EVAL": (f"{NEEDED} {MESSAGES} ~aiodistlock:marker -eval", "danger", "lock: EVAL refused"),
    "no INFO": (f"{NEEDED} {MESSAGES} ~aiodistlock:marker -info", "warning", "votes twice"),
}


@pytest.mark.bounded(60)
def test_a_quorum_tries_its_own_scripts_and_begins_no_quarantine(start: Start) -> None:
    """What its scripts may not do on a node is told; its real marker stays as it was."""
    server, *others = (start(), start(), start())
    urls = [each.url for each in others]
    with client(server) as admin:
        for name, (rights, expected, what) in VOTES.items():
            admin.flushall()
            admin.script_flush()
            rules = ["reset", "on", f">{PASSWORD}", "resetchannels", *rights.split()]
            admin.execute_command("ACL", "SETUSER", "locker", *rules)
            report = examined(server.url.replace("://", f"://locker:{PASSWORD}@"), *urls)
            here = [
                (each["level"], each["found"])
                for each in report["findings"]
                if each["check"] in ("permissions", "independent")
                and f"127.0.0.1:{server.port}" in each["nodes"]
            ]
            told = [words for found, words in here if found == expected]
            assert name == "enough" or any(what in words for words in told), (name, here)
            # No key is asked for where it is a command that is missing.
            assert ("the key" in str(told)) == (name == "no marker")
            if name == "enough":
                assert level(report, "permissions") == "ok"
            left = [key for key in admin.scan_iter() if not key.startswith(b"aiodistlock:fence")]
            assert b"aiodistlock:marker" not in left
            assert name == "no DEL" or left == []
            assert all(0 < admin.pttl(key) <= 5_000 for key in left)


def test_a_quorum_survives_nodes_that_are_down_or_frozen(start: Start) -> None:
    """Two of five are silent: a warning for each, and a bare majority; within the timeout."""
    nodes = [start() for _ in range(5)]
    trust(*nodes)
    nodes[0].freeze()
    nodes[1].kill()
    try:
        report = examined(*(each.url for each in nodes), "--timeout", "0.5")
    finally:
        nodes[0].thaw()
    assert level(report, "majority") == "warning"
    silent = [each["nodes"] for each in report["findings"] if each["check"] == "reachable"]
    places = [f"127.0.0.1:{each.port}" for each in nodes[:2]]
    assert sorted(place for found in silent for place in found) == sorted(places)
    assert level(report, "permissions") == "ok"


def test_a_clock_that_is_wrong_is_measured(
    redis_binary: Path, tmp_path: Path, start: Start
) -> None:
    """A node 1,000 s ahead is told with its error bound, alone and in a quorum."""
    shim = build_shim(tmp_path)
    with shifted_server(redis_binary, shim, tmp_path) as (scripts, clock):
        clock.set_to(1_000)
        port = scripts.client.connection_pool.connection_kwargs["port"]
        url = f"redis://127.0.0.1:{port}"
        report = examined(url)
        assert level(report, "clock") == "warning"
        (node,) = report["nodes"]
        assert abs(node["clock_ahead"] - 1_000) <= node["clock_error"] + 0.01
        report = examined(url, start().url, start().url)
        assert level(report, "clocks") == "warning"


def test_a_counter_that_a_clock_left_ahead_is_told_until_it_has_caught_up(
    redis_binary: Path, tmp_path: Path
) -> None:
    """A lock was taken while the clock was ahead; set right, it is behind what was issued."""
    shim = build_shim(tmp_path)
    with shifted_server(redis_binary, shim, tmp_path) as (scripts, clock):
        port = scripts.client.connection_pool.connection_kwargs["port"]
        url = f"redis://127.0.0.1:{port}"

        def told() -> list[dict[str, Any]]:
            asyncio.run(take_and_leave(url))
            report = examined(url)
            return [each for each in report["findings"] if each["check"] == "fence counter"]

        assert told() == []
        clock.set_to(1_000)
        assert told() == []
        clock.set_to(0)
        (right,) = told()
        assert right["level"] == "warning"
        ahead = float(re.findall(r"is ([\d,.]+) s ahead", right["found"])[0].replace(",", ""))
        assert 900 < ahead <= 1_001
        assert "no lease is handed on within a process" in right["found"]
        assert "leave the counter alone" in right["advice"]
        # The doctor has not mended it: its own probes are as all that lock.
        clock.set_to(-500)
        (wrong,) = told()
        assert "set the clock right" in wrong["advice"]
        clock.set_to(2_000)
        assert told() == []


async def take_and_leave(url: str) -> None:
    """Take a lock as users do."""
    async with LockClient.from_url(url) as locks, locks.lock("n"):
        pass


def test_tls_and_sockets_are_reached(redis_binary: Path, tls_files: TlsFiles) -> None:
    """Options of the URL are redis-py's."""
    with EmbeddedRedis(binary=redis_binary, unix_socket=True) as server:
        assert examined(server.url)["nodes"][0]["address"] == f"unix:{server.socket_path}"
    if servers.supports_tls(redis_binary):
        with EmbeddedRedis(binary=redis_binary, tls=tls_files) as server:
            report = examined(f"{server.url}?ssl_ca_certs={tls_files.ca}")
            assert level(report, "permissions") == "ok"


def test_a_wrong_password_is_one_line_without_it(start: Start) -> None:
    """Alone nothing can be examined; in a quorum it is one node's finding."""
    server = start("--requirepass", "right")
    wrong = server.url.replace("://", f"://:{PASSWORD}@")
    for url in (wrong, server.url):
        told = refused(doctor(url))
        assert "password missing or wrong" in told
        assert PASSWORD not in told
    right = server.url.replace("://", "://:right@")
    second, third = start(), start("--requirepass", "other")
    trust(server, password="right")
    trust(second)
    done = doctor(right, second.url, third.url)
    assert done.returncode == 0
    assert "password missing or wrong" in " ".join(done.stdout.split())
    assert "right@" not in done.stdout


def test_the_password_is_never_printed(start: Start) -> None:
    """Neither in the table nor as JSON, whoever it is for."""
    server = start("--requirepass", PASSWORD)
    url = server.url.replace("://", f"://:{PASSWORD}@")
    for flags in ([], ["--json"]):
        done = doctor(url, *flags)
        assert done.returncode == 0
        assert PASSWORD not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ([], "REDIS_URL"),
        (["http://localhost"], "is no URL of Redis"),
        (["redis://localhost", "--ttl", "0"], "ttl must be"),
        (["redis://localhost", "--timeout", "0"], "timeout must be"),
        (["redis://localhost", "--sample", "61"], "sample must be 0 to 60 seconds"),
        (["redis://localhost", "--sample", "nan"], "sample must be"),
        (["redis://localhost", "--namespace", "{"], "braces"),
        (["redis://127.0.0.1:1"], "127.0.0.1:1"),
        (["redis+cluster://127.0.0.1:1"], "127.0.0.1:1"),
        (["redis+sentinel://127.0.0.1:1/mymaster"], "127.0.0.1:1"),
        (["redis+sentinel://127.0.0.1:1"], "/master"),
    ],
)
def test_what_cannot_be_run_is_one_line(args: list[str], told: str) -> None:
    """Status 2, and what to do; never a traceback."""
    assert told in refused(doctor(*args))


def test_a_frozen_redis_is_given_up(start: Start) -> None:
    """A server that takes the connection and says nothing costs the timeout, no more."""
    server = start()
    server.freeze()
    try:
        assert "0.3 s" in refused(doctor(server.url, "--timeout", "0.3"))
    finally:
        server.thaw()


@pytest.mark.parametrize("way", ["variable", "option", "argument"])
def test_a_redis_is_named_as_for_the_other_commands(start: Start, way: str) -> None:
    """By REDIS_URL; by --redis or an argument, which count for more."""
    server = start(*DURABLE)
    nowhere = {"REDIS_URL": "redis://127.0.0.1:1"}
    if way == "variable":
        done = doctor(environment={"REDIS_URL": server.url})
    elif way == "option":
        done = doctor("--redis", server.url, environment=nowhere)
    else:
        done = doctor(server.url, environment=nowhere)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"127.0.0.1:{server.port}" in done.stdout
