"""The command as a process: forked early, let go once the lock is ours.

It is forked before there are threads (an event loop makes them to resolve names), which
is when fork is safe, and waits at a gate.  So the lock is not held while a process
starts, and the parent has told the guardian, and given it the terminal, before it runs.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from typing import NoReturn

from .guardian import Guardian

NOT_EXECUTABLE = 126
NOT_FOUND = 127

_RESET = (
    *(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1),
    *(signal.SIGUSR2, signal.SIGTSTP, signal.SIGCONT),
)
# Python ignores these on its own account.
_PYTHONS = (signal.SIGPIPE, signal.SIGXFSZ)


def problem(command: Sequence[str]) -> tuple[str, int] | None:
    """
    Tell why a command cannot run, and the exit status that a shell has for that.

    ``None`` if nothing is known to be wrong: exec has the last word.
    """
    program = command[0]
    if shutil.which(program) is not None:
        return None
    folders = [""] if "/" in program else os.get_exec_path()
    if program and any(os.path.exists(os.path.join(each, program)) for each in folders):
        return f"{program}: cannot be executed", NOT_EXECUTABLE
    return f"{program}: not found", NOT_FOUND


class Command:
    """
    The command's process, in a group of its own.

    :param grace: seconds between the SIGTERM and the SIGKILL that end the group
    :ivar pid: of the process, and of its group
    """

    def __init__(self, command: Sequence[str], grace: float) -> None:
        self.guardian = Guardian()
        reads, self._gate = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self.guardian.disown()
                os.close(self._gate)
                _become(command, reads)
            finally:
                os._exit(NOT_EXECUTABLE)
        os.close(reads)
        # Here as well as there: whoever comes second does nothing.
        with contextlib.suppress(ProcessLookupError):  # somebody killed it already
            os.setpgid(self.pid, self.pid)
        self.guardian.guard(self.pid, grace)

    def start(self, environment: Mapping[str, str]) -> None:
        """Let it run, with these variables besides ours."""
        lines = [f"{name}={value}" for name, value in environment.items()]
        with contextlib.suppress(BrokenPipeError):  # somebody killed it at the gate
            os.write(self._gate, os.fsencode("\0".join(lines)))
        os.close(self._gate)

    def signal(self, number: int) -> None:
        """Send a signal to the group, if there is still one."""
        # Gone; or all of it another user's by now, as with sudo.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


def _become(command: Sequence[str], reads: int) -> NoReturn:
    """Wait at the gate, then be the command."""
    os.setpgid(0, 0)
    for number in _RESET:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup stays nohup
            signal.signal(number, signal.SIG_DFL)
    for number in _PYTHONS:
        signal.signal(number, signal.SIG_DFL)
    told = b""
    while chunk := os.read(reads, 65_536):
        told += chunk
    if not told:
        os._exit(0)  # not needed, or nobody is left to need us
    lines = (os.fsdecode(line).partition("=") for line in told.split(b"\0"))
    environment = {**os.environ, **{name: value for name, _, value in lines}}
    try:
        os.execvpe(command[0], list(command), environment)  # noqa: S606  # the user's command
    except OSError as error:
        os.write(2, os.fsencode(f"aiodistlock: {command[0]}: {error.strerror}\n"))
        found = error.errno not in (errno.ENOENT, errno.ENOTDIR)
        os._exit(NOT_EXECUTABLE if found else NOT_FOUND)
