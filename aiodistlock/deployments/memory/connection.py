"""What lies between a client and memory in place of Redis: turns of the event loop.

Answers come in the next turn, as Redis' would some time later.  Clients that share a server
may be in loops of several threads.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from aiodistlock.core.clock import ServerClock
from aiodistlock.core.keys import LockKeys
from aiodistlock.core.thread_lock import thread_lock
from aiodistlock.deployments.memory.server import MemoryServer
from aiodistlock.protocol.call import Call, R
from aiodistlock.protocol.grant_message import Grant, Recall
from aiodistlock.protocol.owner import Owner


class MemoryConnection:
    """
    One client's connection to a :class:`MemoryServer`, where it hears its grants.

    :param owner: told of each grant and recall, in the event loop of this client
    """

    def __init__(self, server: MemoryServer, channel: bytes, owner: Owner) -> None:
        self._server = server
        self.channel = channel
        self._clock = owner.clock
        self._on_announced = owner.on_announced
        self._server_clock = ServerClock()
        self._loop = asyncio.get_running_loop()
        self._stopped = False

        def deliver(message: Grant | Recall) -> bool:
            loop = self._loop
            here = asyncio.get_running_loop() is loop
            call_soon = loop.call_soon if here else loop.call_soon_threadsafe
            try:
                if isinstance(message, Recall):
                    call_soon(owner.on_recall, message)
                else:
                    call_soon(owner.on_grant, message, self._server_clock)
            except RuntimeError:  # its loop is closed
                return False
            return True

        server.inboxes[channel] = deliver

    def run(
        self, operation: Callable[[float], R], on_reply: Callable[[R], object] | None = None
    ) -> Call[R]:
        """Have an operation answered, by the time of then."""
        call = Call(on_reply)
        call.sent_at = self._clock()

        def answer() -> None:
            if not (call.obsolete and self._stopped):
                with thread_lock:
                    reply = operation(self._clock())
                call.finish(reply)

        self._loop.call_soon(answer)
        return call

    def listen(self, keys: LockKeys) -> bool:  # noqa: ARG002  # grants are always heard
        """Tell that grants are heard."""
        return True

    def hear_leaders(self, keys: LockKeys) -> bool:
        """Hear announcements from now on."""
        channel, observers = keys.proclamation, self._server.observers

        def tell() -> None:
            with suppress(RuntimeError):  # its loop is closed
                self._loop.call_soon_threadsafe(self._on_announced, channel)

        with thread_lock:
            observers.setdefault(channel, {})[self.channel] = tell
        return True

    def line(self, keys: LockKeys) -> MemoryConnection | None:  # noqa: ARG002  # as above
        """Return this, which is never silent, until it is stopped."""
        return None if self._stopped else self

    def server_clock(self, call: Call[Any]) -> ServerClock:  # noqa: ARG002  # there is only one
        """Return the one clock that there is, as of the last answer."""
        return self._server_clock

    def excuses(self, call: Call[Any]) -> Sequence[Exception]:  # noqa: ARG002  # nothing fails
        """Return why a call has no answer yet."""
        return ()

    def suspect(self, call: Call[Any]) -> None:
        """Memory does not fall silent."""

    async def aclose(self) -> None:
        """Let what was issued run, and hear no grants any more."""
        await asyncio.sleep(0)
        self.stop()

    def stop(self) -> None:
        """Hear no grants any more."""
        self._stopped = True
        self._server.inboxes.pop(self.channel, None)
        with thread_lock:
            for observers in self._server.observers.values():
                observers.pop(self.channel, None)

    @property
    def online(self) -> bool:
        """Whether it is in use."""
        return not self._stopped

    @property
    def heard_at(self) -> float:
        """Now: memory is never far."""
        return math.inf

    @property
    def stopped(self) -> bool:
        """Whether no grants are heard any more."""
        return self._stopped

    def disown(self) -> None:
        """Do nothing: a child process has a copy of the memory."""
