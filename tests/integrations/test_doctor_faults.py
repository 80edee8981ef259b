"""What the doctor makes of servers that fall silent, break off, or take their time."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio as redis_asyncio
from anyio import create_task_group, fail_after, to_thread

from aiodistlock.doctor.facts import NodeFacts
from aiodistlock.doctor.node import Asking, examine
from aiodistlock.doctor.targets import parse
from aiodistlock.protocol import scripts
from aiodistlock.testing.embedded import EmbeddedRedis
from tests.integrations.doctor_command import (
    ROOT,
    Start,
    client,
    doctor,
    examined,
    level,
    refused,
    trust,
)
from tests.proxy import Action, ChaosProxy, Delay, Do, on


async def asked(proxy: ChaosProxy, namespace: str, timeout: float = 0.8) -> NodeFacts:
    """Examine the run's server through the proxy."""
    (endpoint,) = parse([proxy.url]).endpoints
    return await examine(endpoint, Asking(timeout=timeout, namespace=namespace))


@pytest.mark.parametrize("action", [Do.CUT_BEFORE, Do.BLACK_HOLE])
@pytest.mark.parametrize("name", ["INFO", "HELLO", "CONFIG", "TIME", "PING", "EVALSHA"])
async def test_a_node_that_falls_silent_is_told_not_raised(
    proxy: ChaosProxy, namespace: str, name: str, action: Action
) -> None:
    """Wherever it happens, what was learned before is kept, within a bounded time."""
    proxy.rules = [on("reply", name, action)]
    with fail_after(20):
        facts = await asked(proxy, namespace)
    assert facts.error is not None
    if action is Do.BLACK_HOLE:
        assert facts.error == f"no answer to {name} within 0.8 s"
    assert bool(facts.info) == (name != "INFO")


async def reported(proxy: ChaosProxy, namespace: str, *args: str) -> dict[str, Any]:
    """Run the command, which has an event loop of its own, through the proxy."""
    line = (proxy.url, "--namespace", namespace, *args)
    return await to_thread.run_sync(lambda: examined(*line))


async def test_a_long_way_is_a_finding(proxy: ChaosProxy, namespace: str) -> None:
    """Each answer takes a fifth of the timeout, and there are many: all are waited for."""
    proxy.rules = [lambda frame: Delay(0.08) if frame.kind == "reply" else None]
    report = await reported(proxy, namespace, "--timeout", "0.4", "--ttl", "0.2")
    (node,) = report["nodes"]
    assert node["error"] is None
    assert node["round_trip_p50"] >= 0.08
    assert level(report, "permissions") == "ok"
    (finding,) = [each for each in report["findings"] if each["check"] == "round trip"]
    assert finding["level"] == "danger"
    assert "renewals come too late" in finding["found"]


async def test_what_the_probes_write_outlives_a_long_way(
    proxy: ChaosProxy, namespace: str, redis: redis_asyncio.Redis
) -> None:
    """A lock that expires while it is tried would hide what the next script may not do."""
    await redis.script_load(scripts.ACQUIRE.source)  # or EVALSHA does nothing yet
    proxy.rules = [
        lambda frame: Delay(0.15) if (frame.kind, frame.name) == ("reply", "PING") else None,
        on("reply", "EVALSHA", Do.DROP),
    ]
    async with create_task_group() as tasks:
        tasks.start_soon(asked, proxy, namespace)
        await proxy.seen("reply", "EVALSHA")
        (key,) = await redis.keys(f"{namespace}*")
        # Fifty round trips, where five seconds are the least.
        assert 6_000 < await redis.pttl(key) <= 9_000
        tasks.cancel_scope.cancel()


async def test_what_was_learned_of_a_slow_node_is_reported(
    proxy: ChaosProxy, namespace: str
) -> None:
    """Each answer but PING's in time, and all of them not: the examination ends all the same."""
    proxy.rules = [
        lambda frame: Delay(0.3) if frame.kind == "reply" and frame.name != "PING" else None
    ]
    with fail_after(20):
        report = await reported(proxy, namespace, "--timeout", "0.8")
    (node,) = report["nodes"]
    assert "too slowly: not all was asked within 4" in node["error"]
    assert node["product"].startswith("Redis")
    assert level(report, "reachable") == "danger"
    assert level(report, "round trip") == "ok"
    (finding,) = [each for each in report["findings"] if each["check"] == "reachable"]
    assert "--timeout" in finding["advice"]


@pytest.mark.parametrize("number", [1, 2, 5])
async def test_an_interrupted_probe_leaves_nothing(
    proxy: ChaosProxy, namespace: str, redis: redis_asyncio.Redis, number: int
) -> None:
    """Cancelled while a script runs, the doctor deletes the keys over a new connection."""
    # The server did it, and the doctor is not told.
    proxy.rules = [on("reply", "EVALSHA", Do.DROP, number=number)]
    async with create_task_group() as tasks:
        tasks.start_soon(asked, proxy, namespace, 10.0)
        await proxy.seen("reply", "EVALSHA", number)
        tasks.cancel_scope.cancel()
    assert await redis.keys(f"*{namespace}*") == []


def test_ctrl_c_ends_it_with_one_line() -> None:
    """A server that says nothing, a long timeout, and an impatient user."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        process = subprocess.Popen(
            [sys.executable, "-m", "aiodistlock", "doctor", "--timeout", "60"],
            cwd=ROOT,
            env={**os.environ, "REDIS_URL": f"redis://127.0.0.1:{server.getsockname()[1]}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(20)
                assert connection.recv(1)  # it has begun to ask
                process.send_signal(signal.SIGINT)
                output, errors = process.communicate(timeout=20)
        finally:
            process.kill()
            process.communicate()
    assert (process.returncode, output) == (2, "")
    assert errors == "aiodistlock: interrupted; nothing is left behind\n"


def test_a_server_with_too_many_clients_says_what_helps(start: Start) -> None:
    """It hangs up before it is asked: alone one line with advice, in a quorum a finding."""
    crowded, *others = nodes = [start("--maxclients", "1"), start(), start()]
    trust(*others)
    with client(crowded) as redis:
        redis.ping()
        told = refused(doctor(crowded.url))
        report = examined(*(each.url for each in nodes))
    assert "max number of clients reached: raise maxclients, or close clients" in told
    (finding,) = [each for each in report["findings"] if each["check"] == "reachable"]
    assert "max number of clients reached" in finding["found"]
    assert finding["advice"].startswith("raise maxclients")


def test_a_server_with_room_for_one_more_says_what_helps(start: Start) -> None:
    """The doctor's second connection is refused: what the first one learned is reported."""
    server = start("--maxclients", "2")
    with client(server) as redis:
        redis.ping()
        report = examined(server.url)
    (finding,) = [each for each in report["findings"] if each["check"] == "reachable"]
    assert finding["level"] == "danger"
    assert finding["advice"].startswith("raise maxclients")
    assert level(report, "round trip") == "ok"


def test_a_unix_socket_with_too_many_clients_says_what_helps(redis_binary: Path) -> None:
    """Whatever way leads to the server."""
    crowded = EmbeddedRedis(binary=redis_binary, unix_socket=True, args=("--maxclients", "1"))
    with crowded as server, client(server) as redis:
        redis.ping()
        assert "raise maxclients" in refused(doctor(server.url))
