"""What to do about a server that does not answer.

Rules
-----
1. A connection on which a call has been unanswered for ``ANSWER_WITHIN`` counts as broken.
2. So does one that is found silent since a call that somebody misses.
3. So does one behind sentinels that owes something and is silent for ``SILENT_FOR``: a
   frozen master that another one has replaced would run, once it goes on, what it got
   before, even with ``min-replicas-to-write``, and grant what is somebody else's.
4. A call without an answer for ``unavailable_after``, or for longer than it may, fails.

Further rules for the nodes of a quorum and the primaries of a Cluster stand with their pipes.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from aiodistlock.connection.backlog import Backlog
from aiodistlock.connection.turned_away import Leaving
from aiodistlock.connection.wire import Wire
from aiodistlock.core.clock import Clock
from aiodistlock.core.escaping import described
from aiodistlock.protocol.call import Call
from aiodistlock.protocol.redis_call import RedisCall

logger = logging.getLogger("aiodistlock")

ANSWER_WITHIN = 5.0
"""Seconds without an answer after which a connection counts as broken."""

SILENT_FOR = 1.0
"""Seconds of silence after which one behind sentinels does; they take longer, as a rule."""


class Silence:
    """
    Notices that one pipe's connection is silent, and that calls wait for too long.

    :param backlog: the calls that the pipe owes an answer
    :param unavailable_after: seconds without an answer after which a call fails
    :param replaceable: whether connecting anew may reach another server
    """

    __slots__ = (
        "_backlog",
        "_clock",
        "_loop",
        "_replaceable",
        "_timer",
        "_unavailable_after",
        "expected",
        "last_error",
        "wire",
    )

    def __init__(
        self, backlog: Backlog, clock: Clock, *, unavailable_after: float, replaceable: bool
    ) -> None:
        self._backlog = backlog
        self._clock = clock
        self._unavailable_after = unavailable_after
        self._replaceable = replaceable
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self.wire: Wire | None = None
        """The pipe's present connection."""
        self.expected = False
        """Whether the server was asked to take its time."""
        self.last_error: Exception | None = None
        """Why there is no connection, or why there was none for what is still unanswered."""

    def look_later(self) -> None:
        """See to it that somebody looks: one timer for all calls, while there are any."""
        if self._timer is None:
            most = SILENT_FOR if self._replaceable else ANSWER_WITHIN
            pause = min(1.0, most / 4, self._unavailable_after / 4)
            self._timer = self._loop.call_later(pause, self.look)

    def look(self) -> None:
        """Break a connection that is silent for too long, and fail what is overdue."""
        self._timer = None
        now = self._clock()
        wire, sent_at = self.wire, self._backlog.first_sent_at()
        if wire is not None and sent_at is not None:
            waiting, silent = now - sent_at, now - max(sent_at, wire.heard_at)
            replaced = self._replaceable and not self.expected and silent > SILENT_FOR
            if replaced or waiting > ANSWER_WITHIN:
                wire.abort(TimeoutError(f"no answer for {waiting:.3g} s"))
        self._backlog.fail_overdue(now, self._unavailable_after, self.last_error)
        if self.wire is not None and not self._backlog.interrupted:
            self.last_error = None
        if self._backlog.sent or self._backlog.unsent:
            self.look_later()

    def note(self, error: Exception, place: str, *, missed: bool) -> None:
        """
        Take note of why there is no connection, aloud the first time that somebody misses it.

        :param place: where it led to, for people
        """
        quiet = self.last_error or not missed or isinstance(error, Leaving)
        level = logging.DEBUG if quiet else logging.WARNING
        if missed:
            self.last_error = error
        logger.log(level, "no connection to Redis at %s: %s", place, described(error))

    def suspect(self, call: Call[Any]) -> None:
        """
        Break the connection if it has been silent since ``call`` was sent.

        Something that arrived meanwhile shows that the server is slow, not gone.  And of a
        call that was sent elsewhere first, or over another connection, this one has had no
        time to answer yet.
        """
        assert isinstance(call, RedisCall), "it was submitted"
        wire = self.wire
        if wire is None or self.expected or call.done or wire.heard_at >= call.sent_at:
            return
        now = self._clock()
        silent = now - call.sent_at
        if silent >= (now - call.issued_at) / 2:
            wire.abort(TimeoutError(f"no answer for {silent:.3g} s"))

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
