"""What in-memory clients share in place of Redis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiodistlock.core.clock import ClockWithTimers, local_clock, wall_us
from aiodistlock.core.mark import Mark
from aiodistlock.deployments.memory.entry import Deliver, Entry
from aiodistlock.deployments.memory.group import Groups, letter_of
from aiodistlock.protocol.grant_message import Grant, Recall


class MemoryServer(Groups):
    """
    What the in-memory clients of one test share, each in its own event loop and thread.

    Whoever reads or writes entries holds the ``thread_lock``.

    :param clock: the time of the server and of all its clients; ``None``: real time
    """

    def __init__(self, clock: ClockWithTimers | None = None) -> None:
        self.clock = clock
        self.entries: dict[bytes, Entry] = {}
        self.inboxes: dict[bytes, Deliver] = {}
        self.marks: dict[bytes, tuple[Mark, float]] = {}
        """The last window done of each key, and when it is forgotten."""
        self.epoch_us = 0 if clock is not None else wall_us() - int(local_clock() * 1e6)
        """What to add to its clock, in µs, to have the time of day: windows are told by that."""
        self.observers: dict[bytes, dict[bytes, Callable[[], object]]] = {}
        """Who hears announcements, by the channel of these and by its inbox."""
        self.permits: dict[bytes, Any] = {}
        """What is kept about each semaphore, by its key; see ``permits.py``."""
        self.counter = 0
        """The fencing token issued last, of whatever key."""

    def entry(self, key: bytes, now: float) -> Entry:
        """Return what is kept about a key, without what has expired."""
        entry = self.entries.setdefault(key, Entry())
        if entry.holder is not None and entry.expires_at <= now:
            entry.holder = None
        return entry

    def mark(self, key: bytes, now: float) -> Mark | None:
        """Return the last window that was done of a key, unless it is forgotten."""
        mark, until = self.marks.get(key, (None, now))
        if until <= now:
            self.marks.pop(key, None)
            return None
        return mark

    def grant_next(
        self, key: bytes, entry: Entry, now: float, me: bytes | None, my_ttl_ms: int
    ) -> bool:
        """Make the first waiter that still listens the holder; tell whether there was one."""
        while entry.queue:
            if letter_of(next(iter(entry.queue))) in (b"r", b"u"):
                if self.open_group(key, entry, now, me, my_ttl_ms):
                    return True
                continue
            waiting = entry.queue.pop(next(iter(entry.queue)))
            ttl_ms = my_ttl_ms if waiting.token == me else waiting.grant_ttl_ms
            fence = self.issue_fence(now)
            if waiting.token != me:
                deliver = self.inboxes.get(waiting.inbox)
                grant = Grant(fence, int(now * 1e6), ttl_ms / 1000, waiting.token, key)
                if not (deliver and deliver(grant)):
                    continue
            entry.holder, entry.fence = waiting.token, fence
            entry.expires_at = now + ttl_ms / 1000
            if letter_of(waiting.token):
                entry.version = None
            return True
        return False

    def recall(self, key: bytes, holder: bytes) -> None:
        """Ask a holder to give up a lease that may linger."""
        client, _, count = holder.rpartition(b":")
        deliver = self.inboxes.get(b"aiodistlock:inbox:" + client)
        if deliver is not None and count.startswith(b"0"):
            deliver(Recall(holder, key))

    def issue_fence(self, now: float) -> int:
        """Issue the next fencing token."""
        self.counter = max(int(now * 1e6), self.counter + 1)
        return self.counter

    def announce(self, channel: bytes) -> None:
        """Tell all observers that there is another leader."""
        for tell in list(self.observers.get(channel, {}).values()):
            tell()
