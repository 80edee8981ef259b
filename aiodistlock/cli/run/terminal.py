"""The terminal's foreground: lent to the command, so that it can be interactive.

A command in a process group of its own would be stopped when it reads from the terminal
(SIGTTIN), and Ctrl-C would not reach it.  So it is handed the foreground as a shell does.
"""

from __future__ import annotations

import contextlib
import os
import signal
import termios
from typing import Any


class Terminal:
    """The controlling terminal, if there is one; without one nothing is done."""

    def __init__(self) -> None:
        self._fd: int | None = None
        self._modes: list[Any] | None = None
        with contextlib.suppress(OSError):
            self._fd = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)

    @property
    def is_ours(self) -> bool:
        """Whether our group is in the foreground."""
        try:
            return self._fd is not None and os.tcgetpgrp(self._fd) == os.getpgrp()
        except OSError:  # hung up
            return False

    def lend(self, group: int) -> bool:
        """Put a group into the foreground if ours is there; tell whether it was done."""
        if not self.is_ours:
            return False
        assert self._fd is not None, "it is ours"
        with contextlib.suppress(termios.error):
            self._modes = termios.tcgetattr(self._fd)
        return self._put(group)

    def take_back(self, group: int, *, repair: bool = False) -> bool:
        """
        Put our group into the foreground if ``group`` is there; tell whether it was.

        :param repair: restore the modes: who was killed could not do it
        """
        was_there = False
        with contextlib.suppress(OSError, termios.error):
            if self._fd is None or os.tcgetpgrp(self._fd) != group:
                return False
            was_there = True
            self._put(os.getpgrp())
            if repair and self._modes is not None:
                termios.tcsetattr(self._fd, termios.TCSADRAIN, self._modes)
        return was_there

    def _put(self, group: int) -> bool:
        assert self._fd is not None, "there is a terminal"
        # From the background the change itself would stop us.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        try:
            os.tcsetpgrp(self._fd, group)
        except OSError:  # the group is gone, or the terminal
            return False
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return True
