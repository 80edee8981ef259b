"""What in-memory clients share in place of Redis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from aiodistlock.core.clock import ClockWithTimers


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
    expires_at: float = 0.0
    fence: int = 0
    queue: dict[bytes, Waiting] = field(default_factory=dict)


Deliver = Callable[[int, int, int, bytes, bytes], object]
"""Takes a grant: fence, server time in µs, ttl in ms, token, key."""


class MemoryServer:
    """
    What the in-memory clients of one test share.

    :param clock: the time of the server and of all its clients; ``None``: real time
    """

    def __init__(self, clock: ClockWithTimers | None = None) -> None:
        self.clock = clock
        self.entries: dict[bytes, Entry] = {}
        self.inboxes: dict[bytes, Deliver] = {}

    def entry(self, key: bytes, now: float) -> Entry:
        """Return what is kept about a key, without what has expired."""
        entry = self.entries.setdefault(key, Entry())
        if entry.holder is not None and entry.expires_at <= now:
            entry.holder = None
        return entry

    def grant_next(
        self, key: bytes, entry: Entry, now: float, me: bytes | None, my_ttl_ms: int
    ) -> bool:
        """Make the first waiter that still listens the holder; tell whether there was one."""
        while entry.queue:
            waiting = entry.queue.pop(next(iter(entry.queue)))
            deliver = self.inboxes.get(waiting.inbox)
            if waiting.token != me and deliver is None:
                continue
            ttl_ms = my_ttl_ms if waiting.token == me else waiting.grant_ttl_ms
            issue_fence(entry, now)
            entry.holder, entry.expires_at = waiting.token, now + ttl_ms / 1000
            if waiting.token != me and deliver is not None:
                deliver(entry.fence, int(now * 1e6), ttl_ms, waiting.token, key)
            return True
        return False


def issue_fence(entry: Entry, now: float) -> int:
    """Issue the next fencing token of an entry."""
    entry.fence = max(int(now * 1e6), entry.fence + 1)
    return entry.fence
