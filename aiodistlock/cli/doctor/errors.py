"""The one error that the doctor turns into a line on stderr and exit status 2."""

from __future__ import annotations


class DoctorError(Exception):
    """The doctor cannot examine what it was given; its message is one line."""

    def __init__(self, message: str) -> None:
        # Whatever a server or an operating system says, the user gets one line.
        super().__init__(" ".join(message.split()))
