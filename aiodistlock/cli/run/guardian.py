"""A process that ends a process group when its owner dies, stands still, or asks for it.

The owner holds the only write end of a pipe.  However it dies, the kernel closes it, and
the guardian reads the end of file.  So it works on every POSIX system, and for the whole
group.  (``PR_SET_PDEATHSIG`` is Linux's only, and reaches just the child itself: the
commands of a shell script would go on.)

An owner that was stopped, by SIGSTOP or a debugger, renews nothing and notices nothing.  So
it also tells how long the group may run, and tells it anew in time.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import struct
import time

from aiodistlock.core.clock import local_clock

_LOOK_EVERY = 0.02
"""Seconds between two looks whether the group is gone; nobody tells of grandchildren."""

# Group, 0: none; seconds from SIGTERM to SIGKILL; until when it may run, local clock.
# Each is written at once and read whole: a pipe does not divide what is so short.
_MESSAGE = struct.Struct("idd")


class Guardian:
    """
    The owner's end of it.  Fork it before threads are started.

    :ivar pid: of the guardian, to be reaped by the owner
    """

    def __init__(self) -> None:
        self._closed = False
        self._group, self._grace = 0, 0.0
        reads, self._writes = os.pipe()
        os.set_blocking(self._writes, False)  # if it is stopped: we are not
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
        self._group, self._grace = group, grace
        self.expect_news(math.inf)

    def expect_news(self, until: float) -> None:
        """Have the group ended at an instant of the local clock, if nothing is told before."""
        self._tell(self._group, until)

    def _tell(self, group: int, until: float) -> None:
        if not self._closed:
            with contextlib.suppress(BrokenPipeError, BlockingIOError):  # killed, or stopped
                os.write(self._writes, _MESSAGE.pack(group, self._grace, until))

    def end_group(self) -> None:
        """Have the group ended, unless dismissed; the guardian exits when it is gone."""
        if not self._closed:
            self._closed = True
            os.close(self._writes)

    def dismiss(self) -> None:
        """Leave the group alone; the guardian exits."""
        self._tell(0, math.inf)
        self.end_group()


def _guard(reads: int) -> None:
    # Out of reach of the terminal, and no reader waits for output because of us.
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    group, grace, until = 0, 0.0, math.inf
    while message := _next(reads, until):
        group, grace, until = _MESSAGE.unpack(message)
    if group:
        # Gone; or all of it another user's by now, as with sudo.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            _end(group, grace)


def _next(reads: int, until: float) -> bytes:
    """Return the owner's next message, an empty one if it is gone or too late."""
    seconds = None if until == math.inf else max(0.0, until - local_clock())
    ready, _, _ = select.select([reads], [], [], seconds)
    return os.read(reads, _MESSAGE.size) if ready else b""


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
