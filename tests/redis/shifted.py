"""A Redis whose wall clock a test sets, as an administrator or NTP would."""

import os
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from aiodistlock.testing.embedded import EmbeddedRedis
from tests.redis.driver import Scripts

_SOURCE = Path(__file__).with_name("clock_shift.c")


def build_shim(folder: Path) -> Path:
    """Compile the shim; skips where there is no compiler, and fails where it does."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if sys.platform != "linux" or compiler is None:
        pytest.skip("no C compiler to build the clock shim with, or not Linux")
    shim = folder / "clock_shift.so"
    flags = ["-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(shim)]
    subprocess.run([compiler, *flags, str(_SOURCE)], check=True, timeout=60)
    return shim


class ShiftedClock:
    """The wall clock of one server; its steps must be longer than 20 s."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.scripts: Scripts
        file.write_bytes(struct.pack("qq", 0, 0))

    def set_to(self, seconds: int) -> bool:
        """Set the clock so many seconds before (negative) or after the true time.

        Returns whether the server took it in.
        """
        return self._write(seconds, 0, time.time() + seconds)

    def stop(self) -> bool:
        """Have the clock stand still, 100 s from now."""
        second = int(time.time()) + 100
        return self._write(0, second, second)

    def _write(self, shift: int, stands_at: int, shows: float) -> bool:
        # In place, and in one write: the server has the file mapped.
        with self.file.open("r+b", buffering=0) as file:
            file.write(struct.pack("qq", shift, stands_at))
        # Valkey 9.1 looks at the clock once a millisecond only.
        return any(abs(self.scripts.server_us / 1e6 - shows) < 10 for _ in range(1_000))


@contextmanager
def shifted_server(
    binary: Path, shim: Path, folder: Path
) -> Iterator[tuple[Scripts, ShiftedClock]]:
    """Start a server whose clock can be set."""
    clock = ShiftedClock(folder / "shift")
    server = EmbeddedRedis(binary=binary)
    try:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("CLOCK_SHIFT", str(clock.file))
            environment.setenv("LD_PRELOAD", str(shim))
            server.start()
        with redis.Redis.from_url(server.url) as client:
            clock.scripts = Scripts(client, "lock:wallet:42")
            if not clock.set_to(1_000):
                reason = f"{binary} ignores LD_PRELOAD: its clock cannot be set"
                if os.environ.get("CI") == "true":
                    pytest.fail(reason)
                pytest.skip(reason)
            clock.set_to(0)
            yield clock.scripts, clock
    finally:
        server.stop()
