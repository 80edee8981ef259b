"""The keys that are pressed while ``top`` has the screen."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import termios
import tty
from collections.abc import Callable
from typing import Any, Self


class Keys:
    """
    Hears of ``q``, where stdin is the terminal; its modes are as before in the end.

    Ctrl-C and Ctrl-Z stay signals.

    :param on_quit: told when ``q`` is pressed
    """

    def __init__(self, on_quit: Callable[[], object]) -> None:
        self._on_quit = on_quit
        self._modes: list[Any] | None = None

    def __enter__(self) -> Self:
        self.listen()
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def listen(self) -> None:
        """Read each key as it is pressed, and show none, unless we are in the background."""
        fd = sys.stdin.fileno() if sys.stdin.isatty() else None
        with contextlib.suppress(OSError, termios.error):
            if fd is not None and os.tcgetpgrp(fd) == os.getpgrp():
                self._modes = termios.tcgetattr(fd)
                tty.setcbreak(fd, termios.TCSANOW)
                asyncio.get_running_loop().add_reader(fd, self._read, fd)

    def leave(self) -> None:
        """Give the terminal back as it was."""
        if self._modes is not None:
            fd = sys.stdin.fileno()
            asyncio.get_running_loop().remove_reader(fd)
            with contextlib.suppress(termios.error):  # hung up
                termios.tcsetattr(fd, termios.TCSADRAIN, self._modes)
            self._modes = None

    def _read(self, fd: int) -> None:
        try:
            pressed = os.read(fd, 1024)
        except OSError:
            pressed = b""
        if not pressed:  # hung up: a signal tells
            asyncio.get_running_loop().remove_reader(fd)
        elif b"q" in pressed.lower():
            self._on_quit()
