"""What the doctor makes of servers that fall silent, break off, or take their time."""

import os
import signal
import socket
import subprocess
import sys

import pytest
import redis.asyncio as redis_asyncio
from anyio import create_task_group, fail_after

from aiodistlock.cli.doctor.facts import NodeFacts
from aiodistlock.cli.doctor.node import Asking, examine
from aiodistlock.cli.doctor.targets import parse
from tests.integrations.doctor_command import ROOT
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


async def test_a_slow_node_is_given_up(proxy: ChaosProxy, namespace: str) -> None:
    """Each answer in time, and all of them not: the examination ends all the same."""
    proxy.rules = [lambda frame: Delay(0.3) if frame.kind == "reply" else None]
    with fail_after(20):
        facts = await asked(proxy, namespace)
    assert facts.error is not None
    assert "too slowly" in facts.error
    assert facts.info


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
