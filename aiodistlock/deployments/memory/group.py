"""Readers that hold a key of an in-memory server together; see ``group`` in ``prelude.lua``."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod

from aiodistlock.core.value import READERS
from aiodistlock.deployments.memory.entry import Deliver, Entry
from aiodistlock.protocol.grant_message import Grant

_LETTER = re.compile(rb":\d+:[0-9a-f]{8}:\d+([ruwx])\Z")
_GROUP = READERS.encode()


def letter_of(token: bytes) -> bytes | None:
    """Return the letter that ends a token of a read/write lock, ``None`` of any other."""
    found = _LETTER.search(token)
    return None if found is None else found[1]


def is_group(entry: Entry) -> bool:
    """Tell whether readers hold."""
    return entry.holder is not None and entry.holder.startswith(_GROUP)


def reads(entry: Entry, token: bytes, now: float) -> bool:
    """Tell whether a reader holds."""
    return is_group(entry) and entry.readers.get(token, now) > now


def _client_of(token: bytes) -> bytes:
    return token.rpartition(b":")[0]


class Groups(ABC):
    """What a server does for readers."""

    inboxes: dict[bytes, Deliver]

    @abstractmethod
    def issue_fence(self, now: float) -> int:
        """Issue the next fencing token."""

    @abstractmethod
    def grant_next(
        self, key: bytes, entry: Entry, now: float, me: bytes | None, my_ttl_ms: int
    ) -> bool:
        """Make the first waiter that still listens the holder; tell whether there was one."""

    def _version(self, entry: Entry, now: float) -> int:
        if entry.version is None:
            entry.version = self.issue_fence(now)
        return entry.version

    def open_group(
        self, key: bytes, entry: Entry, now: float, me: bytes | None, my_ttl_ms: int
    ) -> bool:
        """Begin a group of the readers that are first in the queue; tell whether any lives."""
        before = entry.holder
        if before is not None and not is_group(entry) and letter_of(before) is None:
            entry.version = None  # it is not known what another lock's writer wrote
        version = self._version(entry, now)
        entry.readers = {}
        first = self.admit(key, entry, now, version, me, my_ttl_ms)
        if first is None:
            return False
        self.hold_group(entry, first, version)
        return True

    def begin_group(self, entry: Entry, now: float, token: bytes, ttl_ms: int) -> None:
        """Begin a group of one reader, where nobody holds and nobody waits."""
        version = self._version(entry, now)
        entry.readers = {token: now + ttl_ms / 1000}
        self.hold_group(entry, token, version)

    def hold_group(self, entry: Entry, first: bytes, version: int) -> None:
        """Have those hold that read now."""
        entry.holder, entry.fence = _GROUP + first, version
        entry.expires_at = max(entry.readers.values())

    def admit(  # noqa: PLR0917  # as grant_next
        self,
        key: bytes,
        entry: Entry,
        now: float,
        version: int,
        me: bytes | None = None,
        my_ttl_ms: int = 0,
        *,
        asks: bool = False,
    ) -> bytes | None:
        """
        Let in who is first in the queue, as long as these are readers; return the first of them.

        :param asks: whether a writer before them that is gone is dropped
        """
        first = None
        while entry.queue:
            waiting = next(iter(entry.queue.values()))
            token, letter = waiting.token, letter_of(waiting.token)
            other = next((each for each in entry.readers if letter_of(each) == b"u"), None)
            deliver = self.inboxes.get(waiting.inbox)
            if letter == b"r" or (letter == b"u" and other is None):
                del entry.queue[token]
                ttl_ms = my_ttl_ms if token == me else waiting.grant_ttl_ms
                grant = Grant(version, int(now * 1e6), ttl_ms / 1000, token, key)
                if token == me or (deliver and deliver(grant)):
                    entry.readers[token] = now + ttl_ms / 1000
                    first = first or token
            elif letter == b"x" and other and _client_of(other) == _client_of(token):
                if len(entry.readers) == 1:
                    fence, ttl = self.issue_fence(now), waiting.grant_ttl_ms / 1000
                    if deliver and deliver(Grant(fence, int(now * 1e6), ttl, token, key)):
                        del entry.queue[token]
                        self.write(entry, token, fence, now + ttl)
                return first
            elif asks and letter and deliver is None:
                del entry.queue[token]
            else:
                return first
        return first

    def write(self, entry: Entry, token: bytes, fence: int, until: float) -> None:
        """Have a reader be the writer; it keeps what it has if that is more."""
        entry.readers, entry.version = {}, None
        entry.holder, entry.fence = token, fence
        entry.expires_at = max(until, entry.expires_at)

    def settle(
        self,
        key: bytes,
        entry: Entry,
        now: float,
        me: bytes | None = None,
        my_ttl_ms: int = 0,
        *,
        asks: bool = False,
    ) -> None:
        """Go on behind a change: end the group if nobody is left, else let in who may come."""
        entry.readers = {each: end for each, end in entry.readers.items() if end > now}
        if not entry.readers:
            if not self.grant_next(key, entry, now, None, 0):
                entry.holder = None
            return
        self.admit(key, entry, now, entry.fence, me, my_ttl_ms, asks=asks)
        if is_group(entry):
            entry.expires_at = max(entry.readers.values())

    def leave(self, key: bytes, entry: Entry, now: float, token: bytes) -> bool:
        """End one reader's lease; tell whether it was there to be ended."""
        if not reads(entry, token, now):
            return False
        del entry.readers[token]
        self.settle(key, entry, now)
        return True

    def renew_reader(self, entry: Entry, now: float, token: bytes, ttl_ms: int) -> bool:
        """Set the remaining time of a reader's lease; tell whether it was there."""
        if not is_group(entry):
            writer = entry.holder or b""
            if _client_of(writer) != _client_of(token):
                return False
            if letter_of(writer) != b"x" or letter_of(token) != b"u":
                return False
            entry.expires_at = max(now + ttl_ms / 1000, entry.expires_at)
            return True
        if not reads(entry, token, now):
            return False
        entry.readers[token] = now + ttl_ms / 1000
        entry.expires_at = max(entry.readers.values())
        return True
