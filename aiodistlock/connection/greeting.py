"""What the pipe says first on each connection, before any call."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

from aiodistlock.connection.unsupported_commands import MOST_CUT_OFF, UnsupportedCommands
from aiodistlock.core.escaping import message_of
from aiodistlock.protocol.refusals import is_transient

logger = logging.getLogger("aiodistlock")

SUBSCRIBE_AGAIN = 0.5
"""Seconds until a busy server is asked for the inbox again."""


class Greeting(NamedTuple):
    """A command of our own, and what to do with its reply."""

    command: tuple[bytes, ...]
    on_reply: Callable[[Any], object]

    @property
    def word(self) -> str:
        """The command's name; empty where the reply is to something else."""
        return self.command[0].decode() if self.command else ""


_OPTIONAL = ("INFO", "SSUBSCRIBE", "SUBSCRIBE")
"""What can be done without."""

NO_ANNOUNCEMENTS = "no announcements of a leader, observers poll: SUBSCRIBE was refused: %s"

CUT_OFF = "no inbox, waiters poll: %d connections in a row were closed behind SUBSCRIBE"


class Greeter:
    """
    Builds the greetings.

    :param channels: to subscribe to: the inbox, and behind it others
    :param say: sends greetings, if there is a connection
    """

    def __init__(self, channels: Sequence[bytes], say: Callable[[list[Greeting]], object]) -> None:
        self._channels = channels
        self._say = say
        self._unsupported = UnsupportedCommands()
        self.also: list[Greeting] = []
        """What else to say on each connection."""

    def greetings(self, resp3: bool) -> list[Greeting]:
        """Return what to say now, in order; what is left out is answered with an error."""
        left_out = self._unsupported.commands
        for each in self.also:
            if each.word in left_out:
                each.on_reply(ConnectionError(f"connections were closed behind {each.word}"))
        said = [*self.also, *map(self.subscription, self._channels)] if resp3 else self.also
        return [each for each in said if each.word not in left_out]

    def ended(self, unanswered: Iterable[object]) -> None:
        """Take note that the connection is lost, and what was unanswered on it."""
        head = next(iter(unanswered), None)
        word = head.word if isinstance(head, Greeting) else ""
        if self._unsupported.ended(word if word in _OPTIONAL else ""):
            self._on_left_out(word)

    def _on_left_out(self, word: str) -> None:
        if word == "SUBSCRIBE":
            logger.warning(CUT_OFF, MOST_CUT_OFF)

    def subscription(self, channel: bytes) -> Greeting:
        """Return what subscribes to a channel."""
        # Confirmed by a push; a reply is a refusal.
        return Greeting((b"SUBSCRIBE", channel), partial(self._not_subscribed, channel))

    def _not_subscribed(self, channel: bytes, reply: Any) -> None:
        if channel != self._channels[0]:
            logger.warning(NO_ANNOUNCEMENTS, message_of(reply))
            return
        logger.warning("no inbox, waiters poll: SUBSCRIBE was refused: %s", message_of(reply))
        if is_transient(reply):
            loop = asyncio.get_running_loop()
            loop.call_later(SUBSCRIBE_AGAIN, lambda: self._say([self.subscription(channel)]))
