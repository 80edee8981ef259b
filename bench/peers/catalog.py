"""Which locks are measured, and whether they can be here."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from bench.peers import installs


@dataclass(frozen=True)
class PeerInfo:
    """
    One lock, for the parent.

    :ivar key: what ``--peers`` calls it
    :ivar title: what reports call it
    :ivar module: its adapter in this package
    :ivar package: distribution whose version is reported
    :ivar requests: commands that it sends itself; what its scripts call on top is not
        counted
    :ivar loops: ``asyncio``, ``uvloop`` or ``threads``: what it runs on
    :ivar processes: whether it can be measured in several processes at once
    :ivar most_tasks: beyond that it is not measured
    """

    key: str
    title: str
    module: str
    package: str
    requests: Sequence[str] = ()
    loops: Sequence[str] = ("asyncio",)
    processes: bool = True
    most_tasks: int = 1024
    command: Callable[[], list[str]] = field(default=lambda: [sys.executable, "-m", "bench.worker"])
    version: Callable[[str], str] = importlib.metadata.version

    def missing(self) -> str | None:
        """Return why it cannot be measured; ``None`` if it can."""
        try:
            self.command()
            self.version(self.package)
        except installs.NotInstallable as error:
            return str(error)
        except importlib.metadata.PackageNotFoundError:
            return f"not installed: pip install {self.package}"
        return None


def _etcd_command() -> list[str]:
    if shutil.which("etcd") is None:
        raise installs.NotInstallable("no etcd on PATH: apt install etcd-server")
    return [sys.executable, "-m", "bench.worker"]


def _benchmark_command() -> list[str]:
    if shutil.which("redis-benchmark") is None:
        raise installs.NotInstallable("no redis-benchmark on PATH: apt install redis-tools")
    return ["redis-benchmark"]


def _benchmark_version(_package: str) -> str:
    shown = subprocess.run(
        ["redis-benchmark", "--version"], capture_output=True, text=True, check=False
    )
    return shown.stdout.removeprefix("redis-benchmark ").split(" (")[0].strip()


def _python_version(_package: str) -> str:
    return "Python " + sys.version.split()[0]


_SCRIPTS = ("evalsha", "eval")

SEMAPHORE = "py-redis-semaphore"
"""The library that has a semaphore, and no lock that is measured."""

PEERS = {
    peer.key: peer
    for peer in (
        PeerInfo(
            "aiodistlock", "aiodistlock", "ours", "aiodistlock", _SCRIPTS, ("asyncio", "uvloop")
        ),
        PeerInfo("lingering", "aiodistlock, lingering", "lingering", "aiodistlock", _SCRIPTS),
        PeerInfo("auto", "aiodistlock, linger auto", "lingering_auto", "aiodistlock", _SCRIPTS),
        PeerInfo("quorum", "aiodistlock, quorum of 5", "ours", "aiodistlock", _SCRIPTS),
        PeerInfo("cluster-one", "aiodistlock, 1 of 3 primaries", "ours", "aiodistlock", _SCRIPTS),
        PeerInfo("cluster-all", "aiodistlock, all 3 primaries", "ours", "aiodistlock", _SCRIPTS),
        PeerInfo("redis-py", "redis-py Lock", "redis_py", "redis", ("set", *_SCRIPTS)),
        PeerInfo("pottery", "pottery AIORedlock", "pottery_redlock", "pottery", ("set", *_SCRIPTS)),
        PeerInfo("coredis", "coredis Lock", "coredis_lock", "coredis", ("set", *_SCRIPTS)),
        PeerInfo(
            "python-redis-lock",
            "python-redis-lock",
            "python_redis_lock",
            "python-redis-lock",
            # Its release script calls GET once: that many GETs stand for EVALSHA.
            ("set", "get", "blpop"),
            ("threads",),
            most_tasks=64,
        ),
        PeerInfo(
            "aioredlock",
            "aioredlock",
            "aioredlock_lock",
            "aioredlock",
            _SCRIPTS,
            command=lambda: [installs.aioredlock_python(), "-m", "bench.worker"],
            version=lambda _package: installs.AIOREDLOCK,
        ),
        PeerInfo(
            "node-redlock",
            "node-redlock",
            "node_redlock",
            "redlock",
            _SCRIPTS,
            processes=False,
            command=installs.node_command,
            version=lambda _package: installs.NODE_REDLOCK,
        ),
        PeerInfo(
            SEMAPHORE,
            SEMAPHORE,
            "py_redis_semaphore",
            SEMAPHORE,
            # A PEXPIRE goes with each LPUSH; those of its scripts are not to count.
            (*_SCRIPTS, "blpop", "lpush", "lpush", "ltrim"),
        ),
        PeerInfo("mutex", "asyncio.Lock", "mutex", "", processes=False, version=_python_version),
        PeerInfo("setnx", "naive SETNX", "setnx", "redis", ("set", "del")),
        PeerInfo("etcd", "etcd v3 (aetcd)", "etcd", "aetcd", command=_etcd_command),
        PeerInfo("pipe", "empty script through our pipe", "", "aiodistlock", _SCRIPTS),
        PeerInfo(
            "redis-benchmark",
            "the bare scripts in redis-benchmark",
            "",
            "",
            _SCRIPTS,
            command=_benchmark_command,
            version=_benchmark_version,
        ),
    )
}

OURS = "aiodistlock"
REFERENCE = "redis-py"
MUTEX = "mutex"
LINGERING = "lingering"
"""Ours, with locks that linger."""
AUTO = "auto"
"""Ours, with locks that linger where it has been seen to pay."""
ON_ONE, ON_ALL = "cluster-one", "cluster-all"
"""Ours on a cluster: names on one of its primaries, or on all."""
LOCKS = ("pottery", "coredis", "python-redis-lock", "aioredlock", "node-redlock")
"""The other peers, in the order of the reports."""


AT = f"{OURS} at "
"""Opens the key of ours as another commit has it; the short hash follows."""


def info(peer: str) -> PeerInfo:
    """Return what is known of a peer."""
    if not peer.startswith(AT):
        return PEERS[peer]
    commit = peer.removeprefix(AT)
    return replace(
        PEERS[OURS],
        key=peer,
        title=peer,
        command=lambda: installs.commit_command(commit),
        version=lambda _package: commit,
    )


@dataclass(frozen=True)
class Side:
    """A peer on one kind of event loop."""

    peer: str
    loop: str = "asyncio"

    @property
    def key(self) -> str:
        """What results call it."""
        return self.peer if self.loop in ("asyncio", "threads") else f"{self.peer}/{self.loop}"

    @property
    def info(self) -> PeerInfo:
        """What is known of the peer."""
        return info(self.peer)


def title(key: str) -> str:
    """Return what reports call a side."""
    peer, _, loop = key.partition("/")
    name = PEERS[peer].title if peer in PEERS else peer
    return f"{name}, {loop}" if loop else name


def sides(*peers: str) -> list[Side]:
    """Return the sides of these peers, each on every loop that it runs on."""
    return [
        Side(peer, loop)
        for peer in peers
        for loop in info(peer).loops
        if loop != "uvloop" or importlib.util.find_spec("uvloop") is not None
    ]
