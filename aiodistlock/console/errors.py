"""The error that a command turns into a line on stderr and an exit status."""

from __future__ import annotations

from typing import Final

from aiodistlock.core.escaping import one_line

EXIT_USAGE: Final = 2

# Of sysexits.h, as scripts know them.
EXIT_UNAVAILABLE: Final = 69
EXIT_LOST: Final = 70
EXIT_NOT_ACQUIRED: Final = 75


class CommandError(Exception):
    """
    A command, the doctor or the demo cannot do what it was asked; its message is one line.

    :ivar status: the exit status
    """

    def __init__(self, message: str, status: int = EXIT_USAGE) -> None:
        # Whatever a server or an operating system says, the user gets one line.
        super().__init__(one_line(message))
        self.status = status
