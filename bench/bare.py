"""The server alone: redis-benchmark running the scripts of an uncontended cycle."""

from __future__ import annotations

import csv
import subprocess
from typing import Any, cast

import hiredis

from aiodistlock.connection.pipe_like import Inboxes, PipeLike
from aiodistlock.core.keys import LockKeys
from aiodistlock.core.value import value_of
from aiodistlock.deployments.single.store import SingleStore
from aiodistlock.protocol.operations import Operations
from aiodistlock.protocol.redis_call import RedisCall
from aiodistlock.protocol.scripts import ACQUIRE, RELEASE, Script, bulks
from bench.processes import WorkerFailed
from bench.results import Metrics
from bench.server import BenchServer

TOKEN = b"bench:1:00000000:1"
VALUE = value_of(TOKEN, 1_800_000_000_000_000)

# redis-benchmark puts a random number of twelve digits in the place of each.
_RANDOM = b"__rand_int__"

# Of so many held locks each release picks one: nearly all of them are held, then.
_HELD = 300_000

_TAG = 1_000_000_000_001

_POPULATE = """
for i = tonumber(ARGV[1]), tonumber(ARGV[2]) do
  redis.call('SET', string.format('bench:%012d', i), ARGV[3], 'PX', 600000)
end
"""


class _Notes:
    """Stands for the pipe, to learn what the store would send."""

    def __init__(self) -> None:
        self.calls: list[RedisCall[Any]] = []

    def submit(self, call: RedisCall[Any]) -> None:
        """Take note of a call."""
        self.calls.append(call)

    def open_address(self, _keys: LockKeys) -> bytes:
        """Return no channel: nobody queues."""
        return b""


def commands() -> tuple[list[str], list[str]]:
    """Return acquire and release as redis-benchmark takes them."""
    notes = _Notes()
    store = SingleStore(cast(PipeLike, notes), cast(Inboxes, notes), Operations())
    store.acquire(LockKeys("name", "bench:"), TOKEN, 10_000, None, lambda _reply: None)
    store.release(LockKeys("name", "bench:"), VALUE, 0, 0.0)
    acquire, release = (_command(call) for call in notes.calls)
    return acquire, release


def _command(call: RedisCall[Any]) -> list[str]:
    reader = hiredis.Reader()
    call.tag = _TAG
    reader.feed(call.packed(bulks(b"aiodistlock:void:0123456789abcdef")))
    command, sha, keys, _key, *rest = cast(list[bytes], reader.gets())
    # The key is random.  Fence counter and queue are not: in a steady state the one
    # exists and the other does not.  And nothing is void.
    args = [command, sha, keys, b"bench:" + _RANDOM, *rest]
    return [each.decode() for each in args]


def measure(server: BenchServer, clients: int, pipelined: int, requests: int) -> Metrics:
    """
    Measure the two scripts.

    :param clients: connections
    :param pipelined: requests that each has under way
    :param requests: how many of each script
    :raises WorkerFailed: if redis-benchmark does not run
    """
    for script in (ACQUIRE, RELEASE):
        _load(server, script)
    acquire, release = commands()
    options = ["-c", str(clients), "-P", str(pipelined), "-n", str(requests)]
    server.clear()
    taken = _benchmark(server, [*options, "-r", "1000000000000"], acquire)
    server.clear()
    for first in range(0, _HELD, 10_000):
        server.redis.eval(_POPULATE, 0, str(first), str(first + 9_999), VALUE)
    given = _benchmark(server, [*options, "-r", str(_HELD)], release)
    held = int(server.redis.dbsize())
    server.clear()
    return {
        # One after the other, as each cycle does it.
        "rate": 1 / (1 / taken["rate"] + 1 / given["rate"]),
        "acquire_rate": taken["rate"],
        "release_rate": given["rate"],
        "server_us": taken["server_us"] + given["server_us"],
        "acquire_us": taken["server_us"],
        "release_us": given["server_us"],
        "released_share": (_HELD - held) / requests,
        "requests": 2.0,
    }


def _load(server: BenchServer, script: Script) -> None:
    server.redis.script_load(script.source.decode())


def _benchmark(server: BenchServer, options: list[str], command: list[str]) -> dict[str, float]:
    requests = int(options[options.index("-n") + 1])
    before = server.read()
    try:
        done = subprocess.run(
            ["redis-benchmark", "-p", str(server.port), "--csv", *options, *command],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise WorkerFailed(str(error)) from error
    after = server.read()
    rows = [row for row in csv.reader(done.stdout.splitlines()) if len(row) > 1]
    try:
        rate = float(rows[-1][1])
    except (IndexError, ValueError):
        raise WorkerFailed(f"redis-benchmark: {(done.stderr or done.stdout)[-200:]}") from None
    return {"rate": rate, "server_us": (after.cpu - before.cpu) / requests * 1e6}
