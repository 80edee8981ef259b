"""Where grants arrive: one pub/sub channel per client, shared by all its waiters.

And the channels on which leaders are announced, one for each election that is observed.

Under RESP3 the channel is heard on the pipe itself, so a grant cannot overtake the
reply to the request that queued for it.  Under RESP2 a subscribed connection can do
nothing else, so the inbox opens a second one, before the client's first wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from aiodistlock.connection.greeting import CUT_OFF, NO_ANNOUNCEMENTS, SUBSCRIBE_AGAIN
from aiodistlock.connection.keeper import Keeper
from aiodistlock.connection.opening import Fault, Opener
from aiodistlock.connection.unsupported_commands import MOST_CUT_OFF, UnsupportedCommands
from aiodistlock.connection.wire import Unreadable, Wire, pack
from aiodistlock.core.clock import ServerClock
from aiodistlock.core.escaping import described, message_of
from aiodistlock.core.keys import LockKeys
from aiodistlock.protocol.owner import OnGrant, PipeOwner, deliver
from aiodistlock.protocol.refusals import is_transient

logger = logging.getLogger("aiodistlock")


class Inbox:
    """
    The one channel of a client, and the second connection that RESP2 needs to hear it.

    That is opened by :meth:`listen`, and kept until closed.

    :param secret: by which grants are told from what anybody else publishes there
    :param owner: told each time the channel is heard (again)
    """

    def __init__(
        self,
        opener: Opener,
        channel: bytes,
        secret: bytes,
        owner: PipeOwner,
        on_grant: OnGrant,
    ) -> None:
        self.channel = channel
        self.channels = [channel]
        """All that are to be heard: behind the first those on which leaders are announced."""
        self._announcing: set[bytes] = set()
        """Which of these are heard."""
        self._unconfirmed: deque[bytes] = deque()
        """Those that the second connection has asked for, in order."""
        self.address = b"%b %b" % (channel, secret)
        """What a record in a queue says of where its waiter hears its grant."""
        self._secret = secret
        self._on_grant = on_grant
        self._owner = owner
        self._wire: Wire | None = None
        self._refused = False
        self._unsupported = UnsupportedCommands()
        self._told_unreadable = False
        self._keeper = Keeper(opener, "aiodistlock inbox", owner.rng, self, lingers=False)
        self.listening = False
        """Whether the server confirmed the subscription of the second connection."""
        self.heard_on_pipe = False
        """Whether it confirmed that of the pipe."""
        self._on_pipe: bool | None = None
        self.server_clock = ServerClock()
        """Of the server at the other end."""

    def connected(self, *, on_pipe: bool) -> None:
        """
        Take in that the pipe is connected (again).

        :param on_pipe: whether the channel can be heard there
        """
        self._on_pipe = on_pipe
        self._announcing.clear()
        # What was refused may be granted by now.  And a second connection may hang on the
        # server that the pipe has left, or be about to.
        self._refused = False
        self._unsupported.passed()
        if self._wire is not None:
            self._wire.abort(ConnectionError("the pipe has connected anew"))
        else:
            self._keeper.lost()
        # It may be another server than before, and a grant of the new one must not be
        # mapped by what the old one's clock showed.
        self.server_clock = ServerClock()

    def address_of(self, keys: LockKeys) -> bytes:  # noqa: ARG002  # one for all
        """Return where all grants are heard."""
        return self.address

    address_to_queue = address_of

    def open_address(self, keys: LockKeys) -> bytes:  # noqa: ARG002  # one for all
        """Return that if they are heard now, else ``b""``."""
        return self.address if self.heard else b""

    @property
    def heard(self) -> bool:
        """Whether the channel is heard now."""
        return self.heard_on_pipe or self.listening

    def listen(self, keys: LockKeys) -> bool:  # noqa: ARG002  # one channel for all
        """See to it that grants are heard soon; tell whether they are now."""
        self.open()
        return self.heard

    def open(self) -> None:
        """See to it that the channel is heard soon; RESP3 subscribes as it connects."""
        if self._on_pipe is False and not self._refused:
            self._keeper.start()

    def hear(self, channel: bytes) -> bool:
        """See to it that a leader's announcements are heard soon; ``True``: as of now wanted."""
        self.open()
        if channel in self.channels:
            return False
        self.channels.append(channel)
        self._subscribe(channel)
        return True

    def announces(self, channel: bytes) -> bool:
        """Tell whether a leader's announcements are heard now."""
        return channel in self._announcing

    def confirmed(self, channel: bytes) -> None:
        """Take note that a channel on which a leader is announced is heard from now on."""
        self._announcing.add(channel)
        self._owner.on_announced(channel)  # before, one may have been missed

    def deliver(self, message: list[Any]) -> None:
        """Take in what pub/sub pushed."""
        if message[0] == b"message" and message[1] == self.channel:
            self._told_unreadable = False
            deliver(message[2], self._secret, self._owner, self._on_grant, self.server_clock)
        elif message[0] == b"message" and message[1] in self._announcing:
            self._owner.on_announced(message[1])

    def heard_from_pipe(self) -> None:
        """Take note that the server confirmed the subscription of the pipe."""
        self.heard_on_pipe = True
        self._owner.on_listening()

    def wanted(self) -> bool:
        """Tell whether a second connection would be of use."""
        return not self._refused

    def cancelled(self) -> None:
        """Do nothing: the pipe's keeper, cancelled along, has its stopped."""

    def opened(self, connection: AbstractConnection) -> Wire:
        """Subscribe."""
        received = self._received
        self._wire = wire = Wire(connection, received, received, self._lost, self._owner.clock)
        self._unconfirmed.clear()
        for channel in self.channels:
            self._subscribe(channel)
        return wire

    def _subscribe(self, channel: bytes) -> None:
        if self._wire is not None:
            self._unconfirmed.append(channel)
            self._wire.write(pack((b"SUBSCRIBE", channel)))

    def _received(self, reply: Any) -> None:
        """Take in a RESP2 message, which looks like a reply."""
        channel = self._unconfirmed[0] if self._unconfirmed else self.channel
        if isinstance(reply, ResponseError) and channel != self.channel:
            self._unconfirmed.popleft()
            logger.warning(NO_ANNOUNCEMENTS, message_of(reply))
        elif isinstance(reply, ResponseError):
            self._unconfirmed.clear()
            logger.warning("no inbox, waiters poll: SUBSCRIBE was refused: %s", message_of(reply))
            if is_transient(reply):
                loop = asyncio.get_running_loop()
                loop.call_later(SUBSCRIBE_AGAIN, self._subscribe, channel)
            else:
                self._refused = True
                self._keeper.lost()
        elif not isinstance(reply, list):
            raise Unreadable("it is no message", reply)
        elif reply[0] == b"subscribe" and reply[1] != self.channel:
            self._unconfirmed.popleft()
            self.confirmed(reply[1])
        elif reply[0] == b"subscribe":
            self._unconfirmed.popleft()
            self.listening = True
            self.server_clock = ServerClock()
            self._owner.on_listening()
        else:
            self.deliver(reply)

    def not_opened(self, error: Exception) -> None:
        """Say that waiters poll meanwhile."""
        level = logging.WARNING if isinstance(error, Fault) else logging.DEBUG
        logger.log(level, "inbox not connected, waiters poll: %s", described(error))

    def _lost(self, error: Exception) -> None:
        unreadable = isinstance(error, Unreadable) and not self._told_unreadable
        level = logging.WARNING if unreadable else logging.DEBUG
        self._told_unreadable = self._told_unreadable or unreadable
        logger.log(level, "inbox lost, connecting again: %s", described(error))
        self._wire = None
        left_out = self._unsupported.ended("" if self.listening else "SUBSCRIBE")
        self.listening = False
        self._announcing.clear()
        if left_out:
            logger.warning(CUT_OFF, MOST_CUT_OFF)
            self._refused = True
        self._keeper.lost()

    def close(self) -> None:
        """Close the second connection."""
        self.listening = False
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    def stop(self) -> None:
        """Stop listening, without waiting for the end of it."""
        self._keeper.stop()
        self.close()

    async def join(self) -> None:
        """Wait until nothing listens any more."""
        await self._keeper.join()
