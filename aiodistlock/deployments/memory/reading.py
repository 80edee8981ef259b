"""What a store without Redis does for readers: their scripts, said in Python."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from aiodistlock.core.keys import LockKeys
from aiodistlock.core.options import to_ms
from aiodistlock.deployments.memory.connection import MemoryConnection
from aiodistlock.deployments.memory.entry import Entry
from aiodistlock.deployments.memory.group import is_group, letter_of, reads
from aiodistlock.deployments.memory.server import MemoryServer
from aiodistlock.protocol.answers import (
    AcquireReply,
    Downgraded,
    DowngradeReply,
    Granted,
    Held,
    NotOurs,
    Queued,
    UpgradeReply,
)
from aiodistlock.protocol.call import Call

GONE = NotOurs("its key is gone (expired or deleted)")
OTHER = NotOurs("another token is at its key")


class ReadersInMemory(ABC):
    """The part of a store that is about readers."""

    _server: MemoryServer
    connection: MemoryConnection

    @abstractmethod
    def acquire(
        self,
        keys: LockKeys,
        token: bytes,
        ttl_ms: int,
        grant_ttl_ms: int | None,
        on_reply: Callable[[AcquireReply], object],
    ) -> Call[AcquireReply]:
        """Take the lock, or queue for it."""

    @abstractmethod
    def _join(self, entry: Entry, token: bytes, grant_ttl_ms: int) -> None: ...

    def write(
        self,
        keys: LockKeys,
        token: bytes,
        ttl_ms: int,
        grant_ttl_ms: int | None,
        on_reply: Callable[[AcquireReply], object],
    ) -> Call[AcquireReply]:
        """Hold as the writer, or queue for it."""
        return self.acquire(keys, token, ttl_ms, grant_ttl_ms, on_reply)

    def read(
        self,
        keys: LockKeys,
        token: bytes,
        ttl_ms: int,
        grant_ttl_ms: int | None,
        on_reply: Callable[[AcquireReply], object],
    ) -> Call[AcquireReply]:
        """Hold as a reader, or queue for it; see ``read.lua``."""
        server, key = self._server, keys.key

        def granted(entry: Entry, now: float) -> Granted:
            entry.readers[token] = now + ttl_ms / 1000
            entry.expires_at = max(entry.readers.values())
            return Granted(entry.fence, int(now * 1e6), now, others_wait=bool(entry.queue))

        def operation(now: float) -> AcquireReply:
            entry = server.entry(key, now)
            if reads(entry, token, now):
                return granted(entry, now)
            if entry.queue and (entry.holder is None or is_group(entry)):
                again = token in entry.queue
                if grant_ttl_ms is not None:
                    self._join(entry, token, grant_ttl_ms)
                if entry.holder is None:
                    server.grant_next(key, entry, now, token, ttl_ms)
                else:
                    server.settle(key, entry, now, token, ttl_ms, asks=again)
            if entry.holder is None:
                server.begin_group(entry, now, token, ttl_ms)
            second = letter_of(token) == b"u" and any(
                letter_of(each) == b"u" for each in entry.readers
            )
            free = is_group(entry) and not entry.queue and not second
            if free or reads(entry, token, now):
                return granted(entry, now)
            assert entry.holder is not None
            holder, left = entry.holder.decode(), entry.expires_at - now
            if grant_ttl_ms is None:
                return Held(holder, left)
            self._join(entry, token, grant_ttl_ms)
            server.recall(key, entry.holder)
            return Queued(holder, left, list(entry.queue).index(token), int(now * 1e6), now)

        return self.connection.run(operation, on_reply)

    def upgrade(  # noqa: PLR0917  # as acquire
        self,
        keys: LockKeys,
        reader: bytes,
        token: bytes,
        ttl_ms: int,
        grant_ttl_ms: int | None,
        on_reply: Callable[[UpgradeReply], object],
    ) -> Call[UpgradeReply]:
        """Make a reader the writer, or queue for that before all others; see ``upgrade.lua``."""
        server, key = self._server, keys.key

        def operation(now: float) -> UpgradeReply:
            entry = server.entry(key, now)
            until = now + ttl_ms / 1000
            if entry.holder == token:
                entry.expires_at = max(until, entry.expires_at)
                return Granted(entry.fence, int(now * 1e6), now)
            if entry.holder is None:
                return GONE
            if not reads(entry, reader, now):
                return OTHER
            entry.readers = {each: end for each, end in entry.readers.items() if end > now}
            if len(entry.readers) == 1:
                entry.queue.pop(token, None)
                server.write(entry, token, server.issue_fence(now), until)
                return Granted(entry.fence, int(now * 1e6), now)
            holder, left = entry.holder.decode(), entry.expires_at - now
            if grant_ttl_ms is None:
                return Held(holder, left)
            if token not in entry.queue:
                others, entry.queue = entry.queue, {}
                self._join(entry, token, grant_ttl_ms)
                entry.queue.update(others)
            return Queued(holder, left, list(entry.queue).index(token), int(now * 1e6), now)

        return self.connection.run(operation, on_reply)

    def downgrade(
        self, keys: LockKeys, token: bytes, reader: bytes, ttl_ms: int, highest: int
    ) -> Call[DowngradeReply]:
        """Make the writer a reader; see ``downgrade.lua``."""
        server, key = self._server, keys.key

        def operation(now: float) -> DowngradeReply:
            entry = server.entry(key, now)
            entry.queue.pop(token, None)
            if entry.holder is None:
                return GONE
            if entry.holder == token:
                kept_ms = max(ttl_ms, to_ms(entry.expires_at - now))
                entry.version = max(highest, entry.fence)
                server.begin_group(entry, now, reader, kept_ms)
            else:
                kept_ms = max(ttl_ms, to_ms(entry.readers.get(reader, now) - now))
                if not server.renew_reader(entry, now, reader, kept_ms):
                    return OTHER
            server.settle(key, entry, now)
            return Downgraded(entry.fence, now)

        return self.connection.run(operation)

    def stay_reader(
        self,
        keys: LockKeys,
        token: bytes,
        reader: bytes,
        ttl_ms: int,
        grant_ttl_ms: int | None,  # noqa: ARG002  # the token finds its place here
    ) -> Call[DowngradeReply]:
        """Undo an upgrade."""
        return self.downgrade(keys, token, reader, ttl_ms, 0)
