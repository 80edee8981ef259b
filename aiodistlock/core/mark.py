"""The mark of a name: the last window that was done, by whom, and when.

It is ``<window in µs> <done or begun> <server time in µs> <value>``.  The window is an instant,
so those of one name have an order: what is at or below the mark is not done again.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from aiodistlock.core.value import read_value

KEPT = "kept:"
"""Stands before the token at the key of a name that its holder keeps though it has released."""

_MARK = re.compile(
    rb"(?P<window>\d{1,16}) (?P<state>done|begun) (?P<at>\d{1,16}) (?P<value>.{1,1000})", re.DOTALL
)


class Mark(NamedTuple):
    """What is known of the last window of a name."""

    window_us: int
    done: bool
    """Whether it ran to its end; else it was begun, to be done at most once."""
    at_us: int
    """By the server's clock."""
    token: str
    """Under which lease."""

    def refuses(self, window_us: int) -> bool:
        """Tell whether a window is not to be done any more."""
        return window_us <= self.window_us


def read_mark(mark: bytes) -> Mark | None:
    """Read a mark; ``None`` if there is none, or somebody else wrote something there."""
    found = _MARK.fullmatch(mark)
    if found is None:
        return None
    token = read_value(found["value"]).token.decode(errors="replace")
    return Mark(int(found["window"]), found["state"] == b"done", int(found["at"]), token)
