"""What stands at a key while its lock is held: the token, and the fencing token behind it.

So whoever asks again, or looks, knows the fencing token of the lease.  A token that its user
chose (``compat``), or that another library wrote, stands there alone.
"""

from __future__ import annotations

import re
from typing import NamedTuple

ENDING = r":(?P<pid>\d{1,10}):[0-9a-f]{8}:\d{1,20}[ruwx]?"
"""How each token of this package ends: pid, eight random digits, count; of a read/write lock a
letter."""

READERS = "readers:"
"""Stands before the token of the first of them at the key, while readers hold it together."""

ROUND = r"(?:\.\d{1,20})?"
"""What is behind it on a quorum: the round of the vote."""

_END = re.compile(rf"{ENDING}{ROUND} (?P<fence>\d{{1,16}})\Z".encode())
_LONGEST_END = 100


class Value(NamedTuple):
    """Who holds a lock, and since which fencing token."""

    token: bytes
    fence: int
    """0: the token stands there alone."""

    @property
    def may_linger(self) -> bool:
        """Whether the lease may stay with its process when it is released (docs/wire.md)."""
        return self.fence > 0 and self.token.rpartition(b":")[2].startswith(b"0")


def value_of(token: bytes, fence: int) -> bytes:
    """Return what a grant puts at the key."""
    return b"%b %d" % (token, fence)


def token_of(value: bytes) -> bytes:
    """Return the token of a value that a grant put there."""
    return value.rpartition(b" ")[0]


def read_value(value: bytes) -> Value:
    """Read what anybody may have put at a key."""
    found = _END.search(value[-_LONGEST_END:])
    if found is None:
        return Value(value, 0)
    return Value(token_of(value), int(found["fence"]))
