"""What an in-memory server keeps about one key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from aiodistlock.core.value import token_of
from aiodistlock.protocol.grant_message import Grant, Recall


@dataclass(slots=True)
class Waiting:
    """One waiter in the queue of a key."""

    token: bytes
    inbox: bytes
    grant_ttl_ms: int


@dataclass(slots=True)
class Entry:
    """What the server keeps about one key."""

    holder: bytes | None = None
    """The token; a group's while readers hold."""
    fence: int = 0
    """With which the holder's lease began."""
    expires_at: float = 0.0
    queue: dict[bytes, Waiting] = field(default_factory=dict)
    proclaimed: tuple[bytes, bytes] | None = None
    """By a leader: the value under which, and the text."""
    readers: dict[bytes, float] = field(default_factory=dict)
    """Who reads, by token, and when each lease ends."""
    version: int | None = None
    """Fencing token of the last writer of a read/write lock; ``None``: unknown."""

    def holds(self, value: bytes) -> bool:
        """Tell whether a value is of the holder's lease."""
        return self.holder is not None and token_of(value) == self.holder


Deliver = Callable[[Grant | Recall], bool]
"""Takes a message; tells whether it is heard."""
