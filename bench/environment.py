"""What the figures depend on: machine, versions, commit, load."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from bench.peers import catalog
from bench.peers.catalog import PeerInfo

ROOT = Path(__file__).parents[1]

LIBRARIES = ("redis", "hiredis", "anyio", "uvloop")


def describe(server_version: str, peers: Iterable[str]) -> dict[str, Any]:
    """Return the environment of a run that begins now."""
    return {
        "began_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {sys.version.split()[0]}",
        "redis_server": server_version,
        "commit": _git("rev-parse", "--short=10", "HEAD"),
        "uncommitted": [line[3:] for line in _git("status", "--porcelain").splitlines()],
        "load_average": [round(each, 2) for each in os.getloadavg()],
        "libraries": {name: _version(name) for name in LIBRARIES},
        "peers": {each: _peer_version(catalog.info(each)) for each in peers},
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    for line in lines:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _git(*arguments: str) -> str:
    try:
        # Status would otherwise write the index, which is somebody else's business.
        command = ["git", "--no-optional-locks", *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return done.stdout.rstrip() if done.returncode == 0 else "unknown"


def _peer_version(peer: PeerInfo) -> str:
    return peer.version(peer.package)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
