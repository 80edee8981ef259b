"""``aiodistlock doctor`` finds its way through a Cluster, and from Sentinels to Redis."""

import asyncio
import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as redis_sync

from aiodistlock.doctor.node import Asking
from aiodistlock.doctor.surroundings import gather
from aiodistlock.doctor.targets import parse
from aiodistlock.protocol import scripts
from aiodistlock.testing.embedded import EmbeddedRedis
from tests.integrations.doctor_command import (
    DURABLE,
    Start,
    client,
    doctor,
    examined,
    form_cluster,
    level,
    refused,
)
from tests.proxy import ChaosProxy, Do, on


def sharded_pubsub(redis: redis_sync.Redis) -> bool:
    """Tell whether a server has sharded channels."""
    version: str = redis.info("server")["redis_version"]
    return int(version.partition(".")[0]) >= 7


@pytest.mark.parametrize("size", [1, 3])
def test_a_cluster_is_recognised(start: Start, size: int) -> None:
    """From the URL of any node: its primaries, its slots; and each can take locks."""
    quick = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000")
    nodes = [start(*DURABLE, *quick) for _ in range(size)]
    form_cluster(nodes)
    report = examined(nodes[-1].url)
    assert report["deployment"] == "cluster"
    assert len(report["nodes"]) == size
    assert level(report, "client") == "note"
    assert level(report, "cluster") == "ok"
    assert level(report, "permissions") == "ok"
    assert level(report, "failover") == "warning"
    seeds = ",".join(f"127.0.0.1:{port}" for port in (1, nodes[0].port))
    report = examined(f"redis+cluster://{seeds}")
    assert "client" not in [each["check"] for each in report["findings"]]
    # Each was tried, in a slot of its own, by the scripts that a Cluster runs.
    (tried,) = [each for each in report["findings"] if each["check"] == "permissions"]
    assert size == 1 or len(tried["nodes"]) == size
    assert "fence counter" not in [each["check"] for each in report["findings"]]
    for each in nodes:
        with client(each) as redis:
            assert all(key.startswith(b"aiodistlock:fence") for key in redis.scan_iter())
            if sharded_pubsub(redis):
                assert redis.script_exists(scripts.ACQUIRE.sharded.sha) == [True]
            # What a clock left there that was set back, whichever slot it is of.
            for counter in redis.scan_iter(match="aiodistlock:fence:*"):
                redis.set(counter, int((time.time() + 100) * 1e6))
    report = examined(f"redis+cluster://{seeds}")
    told = [each for each in report["findings"] if each["check"] == "fence counter"]
    assert sum(max(1, len(each["nodes"])) for each in told) == size


def test_a_cluster_without_slots_grants_nothing(start: Start) -> None:
    """A node in cluster mode that serves no slot is a danger."""
    server = start(*DURABLE, "--cluster-enabled", "yes")
    report = examined(server.url)
    assert level(report, "cluster") == "danger"


@pytest.fixture
def sentinel(redis_binary: Path, tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """A Sentinel that watches nothing yet."""
    config = tmp_path / "sentinel.conf"
    config.touch()
    # The file, which Sentinel rewrites, has to be the first argument.
    binary = tmp_path / "sentinel"
    command = shlex.join([str(redis_binary), str(config)])
    binary.write_text(f'#!/bin/sh\nexec {command} "$@" --sentinel\n')
    binary.chmod(0o700)
    with EmbeddedRedis(binary=binary) as server:
        yield server


def wait_until(condition: Callable[[], bool]) -> None:
    """Poll for what servers tell each other and not us."""
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("did not happen within 10 s")


def test_sentinels_lead_to_the_primary(start: Start, sentinel: EmbeddedRedis) -> None:
    """The primary and its replica are examined, and whether a failover can happen."""
    primary = start(*DURABLE)
    replica = start(*DURABLE, "--replicaof", "127.0.0.1", str(primary.port))
    with client(sentinel) as asked:
        tell: Any = asked.execute_command
        tell("SENTINEL MONITOR", "mymaster", "127.0.0.1", primary.port, 1)
        wait_until(lambda: tell("SENTINEL MASTER", "mymaster")["num-slaves"] == 1)
        # One Sentinel is there, the other does not answer.
        url = f"redis+sentinel://127.0.0.1:1,127.0.0.1:{sentinel.port}"
        report = examined(f"{url}/mymaster")
        assert report["deployment"] == "sentinel"
        places = {each["address"]: each["role"] for each in report["nodes"]}
        assert places == {
            f"127.0.0.1:{primary.port}": "primary",
            f"127.0.0.1:{replica.port}": "replica",
        }
        assert level(report, "permissions") == "ok"
        assert level(report, "min-replicas") == "danger"
        assert level(report, "sentinels") == "warning"
        assert level(report, "failover") == "warning"
        tell("SENTINEL SET", "mymaster", "quorum", 2)
        tell("SENTINEL SET", "mymaster", "down-after-milliseconds", 2000)
        report = examined(f"{url}/mymaster")
        (danger,) = [each for each in report["findings"] if "NOQUORUM" in each["found"]]
        assert danger["level"] == "danger"
        # The first falls silent half-way: the other one knows the replica, too.
        asyncio.run(_leads_to_the_replica_though_one_is_silent(sentinel, replica))
    assert "know no primary 'other'" in refused(doctor(f"{url}/other"))
    assert "is no Sentinel" in refused(doctor(f"redis+sentinel://127.0.0.1:{primary.port}/m"))
    assert "redis+sentinel://" in refused(doctor(sentinel.url))


async def _leads_to_the_replica_though_one_is_silent(
    sentinel: EmbeddedRedis, replica: EmbeddedRedis
) -> None:
    async with ChaosProxy.before(sentinel.url) as proxy:
        proxy.rules.append(on("reply", "SENTINEL", Do.BLACK_HOLE, number=2))
        hosts = f"127.0.0.1:{proxy.port},127.0.0.1:{sentinel.port}"
        target = parse([f"redis+sentinel://{hosts}/mymaster"])
        asking = Asking(timeout=1.0, namespace="lock:")
        deployment = await gather(target, asking, lambda _doing: None)
    assert [each.place for each in deployment.replicas] == [f"127.0.0.1:{replica.port}"]
    assert [each.error is None for each in deployment.sentinels] == [False, True]
