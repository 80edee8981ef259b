"""Runs ``aiodistlock doctor`` as a user does, and reads what it says."""

import json
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest
import redis as redis_sync

from aiodistlock.testing.embedded import EmbeddedRedis
from tests.integrations.in_process import run_here

ROOT = Path(__file__).parents[2]
PASSWORD = "s3cret-never-shown"
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")


def doctor(
    *args: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the doctor to its end, as in a pipe 80 columns wide; scripts are not counted."""
    return run_here(
        "doctor", "--sample", "0", *args, environment={"COLUMNS": "80", **(environment or {})}
    )


def examined(*args: str) -> dict[str, Any]:
    """Run the doctor, and return what it found; its status must agree with that."""
    done = doctor("--json", *args)
    assert done.stderr == ""
    report: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (1 if report["verdict"] == "danger" else 0)
    return report


def level(report: dict[str, Any], check: str) -> str:
    """The level of the worst finding of one check."""
    found: list[str] = [each["level"] for each in report["findings"] if each["check"] == check]
    assert found, f"nothing found by {check}: {report}"
    return found[0]


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """Check that a run was refused with one line and status 2; return the line."""
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("aiodistlock: ")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


class Start(Protocol):
    """Starts a server with these arguments."""

    def __call__(self, *args: str) -> EmbeddedRedis:
        """Start it."""
        ...


MARKER = "aiodistlock:marker"


def trust(*nodes: EmbeddedRedis, **settings: Any) -> None:
    """Mark nodes of a quorum as a client's first votes would."""
    for each in nodes:
        with client(each, protocol=2, **settings) as redis:
            redis.set(MARKER, "0")


def client(server: EmbeddedRedis, **settings: Any) -> redis_sync.Redis:
    """A client of a server, to be closed."""
    return redis_sync.Redis.from_url(server.url, **settings)


def form_cluster(nodes: list[EmbeddedRedis]) -> None:
    """Give each node its share of the slots, and wait until all agree that it is served."""
    with ExitStack() as stack:
        clients = [stack.enter_context(client(each, protocol=2)) for each in nodes]
        # As one word each, or redis-py 8 does not read the answer.
        commands: list[Any] = [each.execute_command for each in clients]
        for number, command in enumerate(commands):
            first, behind = (16_384 * (number + n) // len(nodes) for n in (0, 1))
            command("CLUSTER ADDSLOTS", *range(first, behind))
            if number:
                commands[0]("CLUSTER MEET", "127.0.0.1", nodes[number].port)
        for command in commands:
            for _ in range(1000):
                if command("CLUSTER INFO")["cluster_state"] == "ok":
                    break
                # Nodes tell each other, and nobody tells us.
                time.sleep(0.01)
            else:
                pytest.fail("the cluster did not form within 10 s")
