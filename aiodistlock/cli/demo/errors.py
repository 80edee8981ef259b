"""The one error that the demo turns into a line on stderr and exit status 2."""

from __future__ import annotations


class DemoError(Exception):
    """The demo cannot run as asked; its message is one line for the user."""

    def __init__(self, message: str) -> None:
        # Whatever a server or an operating system says, the user gets one line.
        super().__init__(" ".join(message.split()))
