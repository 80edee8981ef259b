"""What the bench's workers do alike, on every kind of loop and in Node."""

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("matplotlib", reason="needs the dependency group plots")

from bench.peers import catalog
from bench.peers.catalog import PeerInfo, Side
from bench.processes import Worker
from bench.worker.record import Recorder
from bench.worker.spec import Spec
from bench.worker.warmup import pauses

# In place of a lock: at "slow" the first of each task takes 0.6 s, and all others nothing;
# at "stuck" only the very first acquisition ever ends.
PYTHON = """
import asyncio, contextlib, sys, time, types

class Lock:
    def __init__(self, peer):
        self.peer, self.calls = peer, 0

    def seconds(self):
        self.calls += 1
        self.peer.calls += 1
        if self.peer.url == "stuck":
            return 0 if self.peer.calls == 1 else 60
        return 0.6 if self.calls == 1 else 0.001

    async def __aenter__(self): await asyncio.sleep(self.seconds())
    async def __aexit__(self, *_): pass
    def __enter__(self): time.sleep(self.seconds())
    def __exit__(self, *_): pass

class Peer:
    calls = 0

    def __init__(self, url): self.url = url
    def lock(self, name): return Lock(self)
    async def __aenter__(self): return self
    async def __aexit__(self, *_): pass

stub = types.ModuleType("bench.peers.stub")
stub.connect = lambda url, tasks, ttl: Peer(url)
sys.modules[stub.__name__] = stub
import bench.worker.__main__
"""

IOREDIS = "exports.default = class { constructor(url) { this.url = url; } };"

REDLOCK = """
exports.default = class {
  constructor([redis]) { this.stuck = redis.url === "stuck"; this.calls = 0; this.names = {}; }
  on() {}
  acquire([name]) {
    this.calls++;
    this.names[name] = (this.names[name] ?? 0) + 1;
    const seconds = this.stuck ? (this.calls === 1 ? 0 : 60) : this.names[name] === 1 ? 0.6 : 0.001;
    const lock = { release: async () => {} };
    return new Promise((done) => setTimeout(() => done(lock), seconds * 1000));
  }
};
"""


@pytest.fixture(params=["asyncio", "threads", "node"])
def side(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Side:
    """Give a worker of each kind a lock whose waits are known."""
    loop: str = request.param
    command = [sys.executable, "-c", PYTHON]
    if loop == "node":
        node = shutil.which("node")
        if node is None:
            pytest.skip("no node on PATH")
        for name, code in (("ioredis", IOREDIS), ("redlock", REDLOCK)):
            (tmp_path / "node_modules" / name).mkdir(parents=True)
            (tmp_path / "node_modules" / name / "index.js").write_text(code)
        driver = Path(catalog.__file__).with_name("node_redlock.cjs")
        command = [node, str(shutil.copy(driver, tmp_path))]
    loop = "asyncio" if loop == "node" else loop
    info = PeerInfo("stub", "stub", "stub", "", loops=(loop,), command=lambda: command)
    monkeypatch.setitem(catalog.PEERS, "stub", info)
    return Side("stub", loop)


def figures(side: Side, spec: Spec) -> dict[str, Any]:
    """Return what a worker measures."""
    with Worker(side, spec) as worker:
        worker.hear()
        worker.tell("go")
        return worker.hear()


SHORT = Spec("cycles", "", "slow", tasks=2, seconds=0.3, warmup=0.01)


def test_workers_tell_the_same_figures(side: Side) -> None:
    """Those that Recorder names, and overlaps."""
    assert set(figures(side, SHORT)) == {*Recorder(1).end(), "overlaps"}


def test_the_window_begins_when_each_task_has_had_its_lock(side: Side) -> None:
    """However long that takes: what is measured is not the first connection."""
    found = figures(side, SHORT)
    assert found["starved"] == 0
    assert found["longest"] < 0.6


def test_a_wait_that_has_not_ended_counts_as_long_as_it_is(side: Side) -> None:
    """From asking, which was before the window; in all quantiles, and not as a cycle."""
    spec = replace(SHORT, url="stuck", hot=True, warmup=0.2, seconds=0.1)
    found = figures(side, spec)
    assert (found["cycles"], found["counts"], found["starved"]) == (0, [0, 0], 2)
    assert sum(found["histogram"].values()) == 2
    assert found["longest"] == max(found["longest_by_task"])
    assert min(found["p50"], *found["longest_by_task"]) > 0.25
    assert found["p99"] == found["longest"]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores cannot be chosen")
def test_a_worker_stays_on_its_core(side: Side) -> None:
    """With all its threads; the parent does not."""
    core = max(os.sched_getaffinity(0))
    before = os.sched_getaffinity(0)
    with Worker(side, replace(SHORT, cpu=core)) as worker:
        worker.hear()
        threads = os.listdir(f"/proc/{worker._process.pid}/task")
        assert {frozenset(os.sched_getaffinity(int(each))) for each in threads} == {
            frozenset({core})
        }
    assert os.sched_getaffinity(0) == before


def test_a_hot_name_is_not_waited_for() -> None:
    """Somebody may never have it; on names of their own the warm-up begins again then."""
    had = iter([False, False, True])
    spec = replace(SHORT, warmup=0.3)
    assert list(pauses(spec, lambda: next(had))) == [0.3, 0.05, 0.05, 0.3]
    assert list(pauses(replace(spec, hot=True), lambda: False)) == [0.3]
