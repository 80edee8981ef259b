"""What is asked of a store besides, where readers hold together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from aiodistlock.core.keys import LockKeys
from aiodistlock.protocol.answers import AcquireReply, DowngradeReply, UpgradeReply
from aiodistlock.protocol.call import Call
from aiodistlock.protocol.store import Store


class ReadersStore(Store, Protocol):
    """
    A store that knows who reads, in one place.

    A quorum is none: its nodes would disagree on who is in the group, and none knows when the
    last reader has left.  What a reader holds is renewed, released and abandoned as a lock is:
    its token tells that it is a reader's.
    """

    def read(
        self,
        keys: LockKeys,
        token: bytes,
        ttl_ms: int,
        grant_ttl_ms: int | None,
        on_reply: Callable[[AcquireReply], object],
    ) -> Call[AcquireReply]:
        """Hold as a reader, or queue for it with ``grant_ttl_ms``; ``None``: only try."""
        ...

    def write(
        self,
        keys: LockKeys,
        token: bytes,
        ttl_ms: int,
        grant_ttl_ms: int | None,
        on_reply: Callable[[AcquireReply], object],
    ) -> Call[AcquireReply]:
        """Hold as the writer, or queue for it with ``grant_ttl_ms``; ``None``: only try."""
        ...

    def upgrade(  # noqa: PLR0917  # as acquire
        self,
        keys: LockKeys,
        reader: bytes,
        token: bytes,
        ttl_ms: int,
        grant_ttl_ms: int | None,
        on_reply: Callable[[UpgradeReply], object],
    ) -> Call[UpgradeReply]:
        """Make a reader the writer, under another token, or queue for that before all others."""
        ...

    def downgrade(
        self, keys: LockKeys, token: bytes, reader: bytes, ttl_ms: int, highest: int
    ) -> Call[DowngradeReply]:
        """
        Make the writer a reader, under another token.

        :param highest: highest fencing token used by local hand-offs
        """
        ...

    def stay_reader(
        self, keys: LockKeys, token: bytes, reader: bytes, ttl_ms: int, grant_ttl_ms: int | None
    ) -> Call[DowngradeReply]:
        """Undo an upgrade that nobody waits for any more."""
        ...
