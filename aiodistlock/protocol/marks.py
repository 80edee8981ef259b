"""What is asked of a store besides, to have something done once a window."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from aiodistlock.core.keys import LockKeys
from aiodistlock.protocol.answers import BeginReply, LookReply, ReleaseReply
from aiodistlock.protocol.call import Call
from aiodistlock.protocol.store import Store


class Ending(NamedTuple):
    """What the good end of a window leaves."""

    window_us: int
    mark_ttl_ms: int
    kept_until_us: int
    """Server time until which the name is kept, 0: it is given up at once."""


class Marks(Store, Protocol):
    """
    A store that knows what was done last, in one place.

    A quorum is none: the window is told by one server's clock, and its mark and the release are
    one step there.
    """

    def look(self, keys: LockKeys) -> Call[LookReply]:
        """Ask what time it is, who holds the name, and what was done last."""
        ...

    def begin(
        self, keys: LockKeys, value: bytes, window_us: int, mark_ttl_ms: int
    ) -> Call[BeginReply]:
        """Mark a window as begun, under our lease."""
        ...

    def finish(
        self, keys: LockKeys, value: bytes, ending: Ending, until: float
    ) -> Call[ReleaseReply]:
        """
        Mark a window as done, and give the lock up, or keep the name for a while.

        :param until: local instant at which the key expires anyway: no answer is waited for
            after it
        """
        ...
