"""A process that ends a process group when its owner dies or asks for it.

The owner holds the only write end of a pipe.  However it dies, the kernel closes it, and
the guardian reads the end of file.  So it works on every POSIX system, and for the whole
group.  (``PR_SET_PDEATHSIG`` is Linux's only, and reaches just the child itself: the
commands of a shell script would go on.)
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

_LOOK_EVERY = 0.02
"""Seconds between two looks whether the group is gone; nobody tells of grandchildren."""

_OVER = b"."


class Guardian:
    """
    The owner's end of it.  Fork it before threads are started.

    :ivar pid: of the guardian, to be reaped by the owner
    """

    def __init__(self) -> None:
        self._closed = False
        reads, self._writes = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._writes)
                _guard(reads)
            finally:
                # Never back into the owner's code, whatever happened.
                os._exit(0)
        os.close(reads)

    def disown(self) -> None:
        """Close a forked child's copy, or the guardian never reads the end of file."""
        os.close(self._writes)

    def guard(self, group: int, grace: float) -> None:
        """Tell which group to end, and after how many seconds to do so by SIGKILL."""
        with contextlib.suppress(BrokenPipeError):  # somebody killed it
            os.write(self._writes, b"%d %f\n" % (group, grace))

    def end_group(self) -> None:
        """Have the group ended, unless dismissed; the guardian exits when it is gone."""
        if not self._closed:
            self._closed = True
            os.close(self._writes)

    def dismiss(self) -> None:
        """Leave the group alone; the guardian exits."""
        with contextlib.suppress(BrokenPipeError):  # somebody killed it
            os.write(self._writes, _OVER)
        self.end_group()


def _guard(reads: int) -> None:
    # Out of reach of the terminal, and no reader waits for output because of us.
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    told = b""
    while chunk := os.read(reads, 100):
        told += chunk
    line, _, over = told.partition(b"\n")
    if line and not over:
        group, grace = line.split()
        # Gone; or all of it another user's by now, as with sudo.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            _end(int(group), float(grace))


def _end(group: int, grace: float) -> None:
    """End a group; raises ProcessLookupError as soon as it is gone."""
    os.killpg(group, signal.SIGTERM)
    # Who is stopped takes the SIGTERM only when it goes on.
    os.killpg(group, signal.SIGCONT)
    until = time.monotonic() + grace
    while time.monotonic() < until:
        time.sleep(_LOOK_EVERY)
        os.killpg(group, 0)
    os.killpg(group, signal.SIGKILL)
