"""What the pipe says first on each connection, before any call."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from aiodistlock.stores.redis_call import is_transient

logger = logging.getLogger("aiodistlock")

SUBSCRIBE_AGAIN = 0.5
"""Seconds until a busy server is asked for the inbox again."""

_CLIENT = re.compile(rb"\bid=(\d+) addr=(\S+:[1-9]\d*) laddr=(\S+) ")


Connection = tuple[bytes, ...]
"""What tells the server which connection to kill; empty if there is none."""


class Greeting(NamedTuple):
    """A command of our own, and what to do with its reply."""

    command: tuple[bytes, ...]
    on_reply: Callable[[Any], object]


class Greeter:
    """
    Builds the greetings, and remembers the connection that they were said on.

    The server is told to kill the former connection, so that nothing that is still on
    its way there can run after what is sent again over this one.

    :param channel: the inbox to subscribe to
    :param say: sends greetings, if there is a connection
    """

    def __init__(self, channel: bytes, say: Callable[[list[Greeting]], object]) -> None:
        self._channel = channel
        self._say = say
        self.former: Connection = ()
        """The connection said on last."""
        self.also: list[Greeting] = []
        """What else to say on each connection."""

    def greetings(self, resp3: bool) -> list[Greeting]:
        """Return what to say now, in order."""
        greetings = []
        if self.former:
            # Denied by an ACL, or gone already: then there is nothing more we can do.
            kill = (b"CLIENT", b"KILL", *self.former)
            greetings.append(Greeting(kill, lambda _reply: None))
        greetings.append(Greeting((b"CLIENT", b"INFO"), self._identified))
        greetings += self.also
        if resp3:
            greetings.append(self._subscribe())
        return greetings

    def _subscribe(self) -> Greeting:
        # Confirmed by a push; a reply is a refusal.
        return Greeting((b"SUBSCRIBE", self._channel), self._not_subscribed)

    def _identified(self, reply: Any) -> None:
        # The address besides the id: after a restart the id is somebody else's.  And the
        # server's own: this may be another server than the former.  Over a unix socket
        # all addresses are alike, and nothing lingers on the way.
        found = _CLIENT.search(reply) if isinstance(reply, bytes) else None
        self.former = (b"ID", found[1], b"ADDR", found[2], b"LADDR", found[3]) if found else ()

    def _not_subscribed(self, reply: Any) -> None:
        logger.warning("no inbox, waiters poll: SUBSCRIBE was refused: %s", reply)
        if is_transient(reply):
            loop = asyncio.get_running_loop()
            loop.call_later(SUBSCRIBE_AGAIN, lambda: self._say([self._subscribe()]))
