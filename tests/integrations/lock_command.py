"""Runs the commands that work on locks, as a user does."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis as redis_sync

from aiodistlock.core.keys import LockKeys, fence_key
from aiodistlock.core.value import read_value

ROOT = Path(__file__).parents[2]

# A run takes under 1 s on an idle core.
PATIENCE = 20.0

COMMAND = [sys.executable, "-m", "aiodistlock"]

Done = subprocess.CompletedProcess[str]


def environment(url: str | None, **more: str) -> dict[str, str]:
    """The environment of a command that uses this Redis, on a terminal 100 columns wide."""
    variables = {**os.environ, "COLUMNS": "100", "PYTHONPATH": str(ROOT), **more}
    variables.pop("REDIS_URL", None)
    return {**variables, "REDIS_URL": url} if url is not None else variables


def command(url: str | None, *args: str, **more: Any) -> Done:
    """Run a command to its end."""
    return subprocess.run(
        [*COMMAND, *args],
        env=environment(url),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        **more,
    )


@contextmanager
def started(url: str, *args: str, **more: Any) -> Iterator[subprocess.Popen[str]]:
    """Start a command; it is killed at the end if it still runs."""
    with subprocess.Popen(
        [*COMMAND, *args],
        env=environment(url),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **more,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def ended(process: subprocess.Popen[str]) -> Done:
    """Wait for the end of a command."""
    out, err = process.communicate(timeout=PATIENCE)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def refused(done: Done, status: int) -> str:
    """Check that a run was refused with one line and a status; return the line."""
    assert (done.returncode, done.stdout) == (status, ""), done
    assert done.stderr.startswith("aiodistlock: ")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def until(holds: Callable[[], object], what: str) -> None:
    """Wait for something that another process does, and that nobody tells of."""
    for _ in range(int(PATIENCE / 0.01)):
        if holds():
            return
        time.sleep(0.01)
    raise AssertionError(f"not within {PATIENCE:g} s: {what}")


def runs(pid: int) -> bool:
    """Tell whether a process runs; who is dead but not yet reaped does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def kill(pid: int) -> None:
    """Kill a process, where it still runs."""
    if runs(pid):
        os.kill(pid, signal.SIGKILL)


class Seen:
    """A lock in Redis, looked at from outside."""

    def __init__(self, url: str, name: str, namespace: str) -> None:
        self.url = url
        self.keys = LockKeys(name, namespace)

    def ask(self, *args: str | bytes | int) -> Any:
        """Run a command of Redis."""
        with redis_sync.Redis.from_url(self.url) as client:
            execute: Any = client.execute_command
            return execute(*args)

    @property
    def holder(self) -> bytes | None:
        """The token at the key."""
        value: bytes | None = self.ask("GET", self.keys.key)
        return None if value is None else read_value(value).token

    @property
    def fence(self) -> int:
        """The counter."""
        return int(self.ask("GET", fence_key(None)) or 0)

    @property
    def waiters(self) -> int:
        """How many processes wait."""
        return int(self.ask("ZCARD", self.keys.queue))
