"""A pipe that gives possession only behind an acknowledgement.

Rules
-----
1. Behind each write that asks for possession goes one command that waits for the
   acknowledgement of all before it, in the same write: several acquisitions share it.
2. That command stalls the connection at the server.  So what is submitted meanwhile
   goes out together, behind its reply.
3. An answer that gives possession is held back until then.  Not acknowledged, it
   becomes a failure; what asked for it undoes it.
4. What is held back when the connection breaks is sent again with the rest.
5. An answer held back without a wait behind it (its script had to be sent once more)
   gets one of its own.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiodistlock.connection.greeting import Greeting
from aiodistlock.connection.inbox import Inbox
from aiodistlock.connection.opening import Opener
from aiodistlock.connection.pipe import Pipe
from aiodistlock.connection.wire import pack
from aiodistlock.deployments.durable.store import Barrier
from aiodistlock.protocol import scripts
from aiodistlock.protocol.answers import Granted, Kept, Renewed
from aiodistlock.protocol.owner import PipeOwner
from aiodistlock.protocol.redis_call import RedisCall

_ASK_FOR_POSSESSION = (scripts.ACQUIRE, scripts.PASS_ON, scripts.RENEW)

LATE_AFTER = 0.5
"""Seconds after a wait's own bound at which a connection without its answer is broken."""


class DurablePipe(Pipe):
    """
    A pipe of the locks that share a durability level.

    :param barrier: what waits for the acknowledgement
    """

    def __init__(self, opener: Opener, inbox: Inbox, owner: PipeOwner, barrier: Barrier) -> None:
        super().__init__(opener, inbox, owner)
        self._barrier = barrier
        self._waiting: asyncio.TimerHandle | None = None
        """While the acknowledgement is waited for: breaks a connection that is silent."""

    def submit(self, call: RedisCall[Any]) -> None:
        """Send a call with the others of this loop turn, or behind the acknowledgement."""
        call.issued_at = self._clock()
        super().submit(call)

    def _flush(self) -> None:
        wire = self._wire
        if wire is None or self._waiting is not None:
            return
        unsent = self._backlog.unsent
        possessive = any(call.script in _ASK_FOR_POSSESSION for call in unsent if not call.obsolete)
        with wire.one_write():
            super()._flush()
            if possessive:
                self._wait()

    def _wait(self) -> None:
        wire = self._wire
        if wire is not None:
            command, within = self._barrier.command()
            silent = TimeoutError("no answer to the wait for the acknowledgement")
            self._waiting = self._loop.call_later(within + LATE_AFTER, wire.abort, silent)
            self._silence.expected = True
            self._backlog.sent.append(Greeting((), self._acknowledged))
            wire.write(pack(command))

    def _wait_no_more(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
            self._silence.expected = False

    def _settle(self, call: RedisCall[Any], answer: Any) -> None:
        if type(answer) not in (Granted, Kept, Renewed):
            call.finish(answer)
            return
        self._backlog.held.append((call, answer))
        if self._waiting is None:
            self._wait()

    def _acknowledged(self, reply: Any) -> None:
        held, failed = self._backlog.held, None
        if held:  # if the reply cannot be read they stay
            failed = self._barrier.missing(reply, min(call.issued_at for call, _ in held))
        self._wait_no_more()
        self._backlog.held = []
        for call, answer in held:
            call.finish(answer if failed is None else failed)
        self._flush()

    def _take_back(self) -> None:
        self._wait_no_more()
        super()._take_back()

    async def aclose(self, within: float = 1.0) -> None:
        """Send what was submitted, wait for answers and acknowledgements, and close."""
        await super().aclose(within + self._barrier.ack.longest)

    def close(self) -> None:
        """Close the connection; the last words go out at once, nobody waits for more."""
        self._wait_no_more()
        super().close()
