"""What a pipe sends again, and in which order.

Rules
-----
1. Over the next connection everything that is unanswered, in the order in which it was asked,
   before what is unsent.  What the former connection may still bring takes no effect then
   (``connection/numbering.py``), so nothing waits for the greeting.
2. Over the same connection what its server did not run: with the script itself, if it does
   not know that; each for itself, if what went together was refused for one of them.
3. Whatever was asked after that goes again behind it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from redis.exceptions import ResponseError

from aiodistlock.connection.backlog import Backlog
from aiodistlock.connection.inbox import Inbox
from aiodistlock.connection.numbering import Numbering
from aiodistlock.connection.silence import Silence
from aiodistlock.connection.wire import Unreadable, Wire
from aiodistlock.core.clock import Clock
from aiodistlock.protocol.batch import Batch
from aiodistlock.protocol.redis_call import RedisCall
from aiodistlock.protocol.refusals import error_code, is_to_be_sent_again, is_transient


class Resender:
    """What a pipe does about requests that did not run, or may not have."""

    _wire: Wire | None
    _heard_at: float
    """Local instant at which anything came over the former connections, -inf if nothing did."""
    _clock: Clock
    _backlog: Backlog
    _numbering: Numbering
    _silence: Silence
    _inbox: Inbox
    _apart: bool
    """Whether what goes next goes each for itself: together it was refused."""
    _unknown: bool
    """Whether the server is to be sent the script of a batch."""

    def _take_back(self) -> None:
        """Have all that is unanswered go again, as soon as the next connection is opened."""
        if self._wire is not None:
            self._heard_at = self._wire.heard_at
        self._wire = self._silence.wire = None
        self._inbox.heard_on_pipe = False
        self._numbering.lost(self._backlog)
        self._backlog.take_back()

    def _send_again(self, calls: Iterable[RedisCall[Any]]) -> None:
        """Have calls that did not run go again, and behind them all that was asked after them."""
        behind = self._backlog.take(lambda _: True)
        self._backlog.unsent = [call for call in calls if not call.obsolete] + behind

    def _resend_with_source(self, call: RedisCall[Any], error: ResponseError) -> None:
        """
        Send a call as EVAL: the server does not know its script (any more), or did not run it.

        Behind it goes again all that was asked after it: an abandon must not come behind the
        next try, a renewal behind a later one, nor a vote behind what takes it back.  (Of any
        key: to find those of this one would take seconds where there are thousands.)
        """
        if call.obsolete or self._wire is None:
            return
        if error_code(error) == "NOSCRIPT" and getattr(call, "sourced", 0) == call.tag:
            self._backlog.sent.appendleft(call)
            raise Unreadable("it was sent the script itself", "NOSCRIPT")
        self._backlog.unsent = self._backlog.take(lambda _: True)  # sent when all is read
        call.sent_at = self._clock()
        self._numbering.number(call)
        call.sourced = call.tag
        self._backlog.sent.append(call)
        self._wire.write(self._numbering.packed(call, source=True))

    def _refused(self, call: RedisCall[Any], error: ResponseError) -> None:
        if is_to_be_sent_again(error):
            self._resend_with_source(call, error)
        else:
            call.refuse(error)

    def _refused_together(self, batch: Batch, error: ResponseError) -> None:
        """Take in that none of them ran."""
        unknown = error_code(error) == "NOSCRIPT"
        if unknown and batch.sourced:
            raise Unreadable("it was sent the script itself", "NOSCRIPT")
        self._backlog.sent.popleft()
        if is_transient(error):
            for call in batch.calls:
                call.refuse(error)
            return
        # What is wrong with one (a key that we have no right to) is not with the others.
        self._unknown = unknown
        self._apart = not unknown and not is_to_be_sent_again(error)
        self._send_again(batch.calls)
