"""What happened in a world, for people: one line for each event that matters, with its time."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from aiodistlock.protocol import scripts
from aiodistlock.protocol.scripts import Script
from tests.simulation.process import Process

_NAMES = {
    name: value.lower()
    for value, each in vars(scripts).items()
    if isinstance(each, Script)
    for name in (each.sha, each.source)
}

_CODES = (
    *("", "GRANTED", "QUEUED", "HELD", "DONE", "GONE", "OTHER", "UNTRUSTED", "BATCH"),
    "GRANTED_BEFORE_OTHERS",
)


class Story(logging.Handler):
    """
    Keeps lines, or drops them.

    :param true_time: tells the time of the world, seconds
    :param told: whether anybody will read it
    """

    def __init__(self, true_time: Callable[[], float], *, told: bool) -> None:
        super().__init__(logging.DEBUG)
        self._true_time = true_time
        self.told = told
        self.lines: list[str] = []

    def tell(self, who: object, what: str) -> None:
        """Take down a line."""
        self.lines.append(f"{self._true_time():10.6f}  {who!s:8} {what}")

    def emit(self, record: logging.LogRecord) -> None:
        """Take down what the library logs."""
        process = Process.current
        self.tell("" if process is None else process.label, f"log: {record.getMessage()}")

    def request(self, server: str, owner: Process, words: list[bytes], reply: Any) -> None:
        """Take down what a server was asked and answered."""
        if words[0] in {b"EVALSHA", b"EVAL"}:
            keys = int(words[2])
            name = _NAMES.get(words[1], words[1][:8].decode())
            args = [words[3], *words[3 + keys :]]
            asked = f"{name} {b' '.join(args).decode()}"
        else:
            asked = b" ".join(words).decode()
        if isinstance(reply, list) and reply and isinstance(reply[0], int):
            reply = [_CODES[reply[0]], *reply[1:]]
        # What is answered by pushes has no reply.
        shown = "" if type(reply) is object else f" -> {reply}"
        self.tell(server, f"{owner.label} asks: {asked}{shown}")
