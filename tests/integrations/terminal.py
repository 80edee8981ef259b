"""A terminal of the test's own, with a command in it."""

import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fcntl import ioctl
from typing import Any

from tests.integrations.lock_command import PATIENCE, environment

CTRL_C = b"\x03"
CTRL_Z = b"\x1a"


class Terminal:
    """What the user of a terminal types, and sees."""

    def __init__(self, fd: int, process: subprocess.Popen[bytes]) -> None:
        self._fd = fd
        self.process = process
        self.seen = ""
        self._read = 0

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._fd, keys)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until something is shown, behind what was waited for before."""
        until = time.monotonic() + PATIENCE
        while (found := re.compile(pattern).search(self.seen, self._read)) is None:
            ready = select.select([self._fd], [], [], until - time.monotonic())[0]
            assert ready, f"{pattern!r} is not shown: {self.seen[self._read :]!r}"
            assert self._more(), f"{pattern!r} was not shown: {self.seen[self._read :]!r}"
        self._read = found.end()
        return found

    def _more(self) -> bool:
        try:
            chunk = os.read(self._fd, 65_536)
        except OSError:  # nobody is there any more
            return False
        self.seen += chunk.decode(errors="replace")
        return bool(chunk)

    def ended(self) -> int:
        """Wait for the end of the command, take in the rest, and return its status."""
        status = self.process.wait(PATIENCE)
        while select.select([self._fd], [], [], 0)[0] and self._more():
            pass
        return status

    @property
    def modes(self) -> Sequence[Any]:
        """How the terminal is set up: echo, lines and the like."""
        return termios.tcgetattr(self._fd)[:4]


@contextmanager
def terminal(url: str, line: Sequence[str], columns: int = 100) -> Iterator[Terminal]:
    """Run a command in a terminal of 30 lines, as a shell's session leader."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    process = subprocess.Popen(
        line,
        env=environment(url, TERM="xterm", PS1="$ ", COLUMNS=str(columns)),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        # Makes the terminal the session's own; the child has one thread only.
        preexec_fn=lambda: ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
    )
    try:
        # Kept open here, so that the modes can be read when the command is gone.
        yield Terminal(ours, process)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(PATIENCE)
        os.close(theirs)
        os.close(ours)
