"""What a store on Redis is given: what carries its calls there, and where grants are heard."""

from __future__ import annotations

from typing import Any, Protocol

from aiodistlock.core.keys import LockKeys
from aiodistlock.protocol.connection import Connection
from aiodistlock.protocol.redis_call import RedisCall


class Inboxes(Protocol):
    """Where this client hears its grants; see ``connection/inbox.py``."""

    def address_of(self, keys: LockKeys) -> bytes:
        """Return where grants for these keys are heard: "<channel> <secret>"."""
        ...

    def address_to_queue(self, keys: LockKeys) -> bytes:
        """Return that to somebody who queues whether or not they are heard yet."""
        ...

    def open_address(self, keys: LockKeys) -> bytes:
        """Return that if a grant would be heard now, else ``b""``."""
        ...


class PipeLike(Connection, Protocol):
    """What carries calls to one Redis, in order; see ``connection/pipe.py``."""

    def submit(self, call: RedisCall[Any]) -> None:
        """Send a call with the others of this loop turn."""
        ...

    def hear_leaders(self, keys: LockKeys) -> bool:
        """See to it that announcements of leaders are heard; tell whether they are now."""
        ...
