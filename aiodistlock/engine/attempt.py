"""One acquisition at Redis, on behalf of all local waiters for a name."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from aiodistlock.core.backoff import Backoff
from aiodistlock.core.clock import ServerClock, Timer
from aiodistlock.core.fencing import report
from aiodistlock.core.lease_state import LeaseEvent, deadline
from aiodistlock.core.tokens import hands_over
from aiodistlock.engine.inbox import Grant
from aiodistlock.engine.waiter import Waiter
from aiodistlock.errors import StoreUnavailable
from aiodistlock.stores.answers import (
    AcquireReply,
    Failed,
    Granted,
    Held,
    Kept,
    PassOnReply,
    Queued,
)
from aiodistlock.stores.base import Call

if TYPE_CHECKING:
    from aiodistlock.engine.contender import Contender

logger = logging.getLogger("aiodistlock")

MAX_PAUSE = 10.0
"""Longest pause of a waiter, seconds: a third of ``QUEUE_TTL_MS``."""


SPLIT = Backoff(initial=0.001, factor=2.0, cap=1.0, jitter=1.0)
"""Pauses after votes that were split one after another: those who contend soon miss each
other, and what a dead one left behind is not asked for all the time."""


class Attempt:
    """One acquisition at Redis, under one token, until it is granted or abandoned."""

    __slots__ = (
        "call",
        "contender",
        "failing_since",
        "moved",
        "options",
        "queues",
        "splits",
        "timer",
        "token",
        "tries",
    )

    def __init__(self, contender: Contender, first: Waiter) -> None:
        self.contender = contender
        self.token = contender.engine.next_token()
        contender.engine.attempts[self.token] = self
        self.options = first.options
        self.queues = first.waits
        """Whether to wait in the queue; not if the only waiter just tries."""
        self.call: Call[Any] | None = None
        self.timer: Timer | None = None
        self.tries = 0
        self.splits = 0
        """How many votes in a row were split."""
        self.failing_since: float | None = None
        self.moved = False
        """Whether to ask once more when the answer under way is there."""

    def ask(self) -> None:
        """Send the request, or send it again."""
        self.moved = False
        if self.timer is not None:
            self.cancel_timer()
        contender = self.contender
        self.call = contender.engine.store.acquire(
            contender.keys,
            self.token,
            self.options.ttl_ms,
            self.options.grant_ttl_ms if self.queues else None,
            self.answered,
        )

    def ask_again(self) -> None:
        """Send the request again, unless one is still unanswered, or all is over."""
        self.cancel_timer()
        over = self.contender.attempt is not self
        if not over and (self.call is None or self.call.done):
            self.ask()

    def on_moved(self) -> None:
        """
        Ask again: another server has the key, or the former one drops what it had of us.

        It may have answered a request that is under way before, so once more then.
        """
        self.moved = True
        self.ask_again()

    def ask_later(self, seen: Queued | Held | None = None) -> None:
        """Send the request again after a pause, or when the holder's ttl runs out."""
        if self.moved:
            self.ask()
            return
        engine = self.contender.engine
        backoff, foreign = self.options.backoff, self.options.foreign_backoff
        if seen is not None and foreign is not None and not hands_over(seen.holder):
            backoff = foreign
        pause = backoff.delay(self.tries, engine.rng)
        if seen is not None and seen.remaining is not None:
            pause = min(pause, seen.remaining + engine.rng.uniform(0.001, 0.01))
        # A queue that nobody visits expires, whatever pauses the user wants.
        pause = min(pause, MAX_PAUSE)
        self.tries += 1
        self.cancel_timer()
        self.timer = engine.timers.call_later(pause, self.ask_again)

    def cancel_timer(self) -> None:
        """Forget the planned request."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def end(self) -> None:
        """Let go of what is planned or in flight: the attempt is over."""
        if self.timer is not None:
            self.cancel_timer()
        self.contender.engine.attempts.pop(self.token, None)
        call = self.call
        if call is not None and call.reply is None:
            call.obsolete = True

    def answered(self, reply: AcquireReply) -> None:
        """Go on after the answer to the request, unless the attempt is over."""
        if self.contender.attempt is not self:
            return
        if type(reply) is Granted:
            self.granted(reply)
            return
        if type(reply) is not Failed:
            self.failing_since = None
        if type(reply) is Queued:
            self.queued(reply)
        elif type(reply) is Held:
            if reply.holder:  # else it stands back, and asked nobody
                self.contender.last_seen = reply
            if self.queues:
                self._not_queued(reply)
            else:
                self._refused()
        elif type(reply) is Failed:
            self.failed(reply)

    def granted(self, reply: Granted) -> None:
        """Take the lease; if the answer is read too late, ask for a fresh ttl first."""
        contender = self.contender
        until = reply.sent_at + self.options.relied_on
        if contender.engine.clock() < until:
            contender.granted(self, reply, reply.sent_at, until)
        elif reply.token is None:
            self.ask()
        else:
            # Each round has a token of its own, so this one's would bar the next.
            engine, highest = contender.engine, report(reply.fence, 0, reply.server_us)
            engine.store.release(contender.keys, reply.token, highest, until)
            self.ask_later()

    def queued(self, reply: Queued) -> None:
        """Wait for the grant, and ask again when it may have been lost."""
        contender, engine = self.contender, self.contender.engine
        contender.last_seen = reply
        assert self.call is not None, "it was answered"
        engine.store.server_clock(self.call).observe(reply.server_us, reply.sent_at)
        holder = reply.holder.encode()
        ours = engine.all_watched and holder.startswith(engine.token_prefix)
        if ours and not engine.holds(contender.keys.key, holder):
            # A failover lost our release: nobody else frees the lock before its ttl is over.
            engine.store.abandon(contender.keys, holder, None)
        self.ask_later(reply)

    def _not_queued(self, reply: Held) -> None:
        """Queue as soon as a grant would be heard; until then ask again."""
        if self.contender.engine.store.listen(self.contender.keys):
            self.ask()
        elif reply.split:
            pause = SPLIT.delay(self.splits, self.contender.engine.rng)
            self.ask_later(reply._replace(remaining=pause))
            self.splits += 1
        else:
            self.splits = 0
            self.ask_later(reply)

    def _refused(self) -> None:
        """Answer the task that only tried; those that came behind it wait."""
        self.end()
        contender = self.contender
        contender.attempt = None
        first = contender.waiters.first()
        if first is not None and not first.waits:
            first.refuse()
            first = contender.waiters.first()
        if first is not None:
            contender.ask(first)

    def failed(self, failed: Failed) -> None:
        """Fail those whose time with an unavailable Redis is over; go on for the rest."""
        contender = self.contender
        engine = contender.engine
        if self.failing_since is None:
            self.failing_since = failed.since
        latest = engine.clock() - engine.options.unavailable_after
        gave_up = 0
        for waiter in contender.waiters:
            since = max(waiter.entered_at, self.failing_since)
            if not failed.transient or since <= latest:
                waiter.fail(StoreUnavailable(contender.keys.name, failed.causes))
                gave_up += 1
        if gave_up:
            problem = StoreUnavailable(contender.keys.name, failed.causes)
            logger.warning("%s; tasks that wait no longer: %d", problem, gave_up)
        if contender.waiters.first() is None:
            contender.abandon(self)
        else:
            self.ask_later()

    def passed_on(self, reply: PassOnReply) -> None:
        """Go on after the former lease was passed on, unless the attempt is over."""
        contender = self.contender
        if contender.attempt is not self:
            return
        lease, contender.process_lease = contender.process_lease, None
        assert lease is not None, "passing on what we hold"
        late = False
        if type(reply) is Kept:
            now = contender.engine.clock()
            late = not lease.alive or now >= reply.sent_at + self.options.relied_on
            if not late:
                self._comes_from_another(local=True)
                contender.kept(lease, self, reply)
                return
        lease.event(LeaseEvent.GIVEN_UP)
        if late or type(reply) is Failed:
            contender.release_at_redis(lease)
        if type(reply) is Granted:
            self.granted(reply)
        elif type(reply) is Queued:
            self.queued(reply)
        elif type(reply) is Held:
            # A quorum has no queue: whoever was told to ask gets a moment to do so.
            self.ask_later(reply)
        elif type(reply) is Failed:
            self.failed(reply)
        else:
            self.ask()

    def on_unacknowledged_grant(self) -> None:
        """Ask for what a message grants, and so for the acknowledgement."""
        self._comes_from_another(local=False)
        call = self.call
        if call is None or call.on_reply is None:
            self.ask_again()
            return
        answered = call.on_reply

        def answered_behind_the_grant(reply: AcquireReply) -> None:
            answered(reply)
            if type(reply) is Queued:
                self.ask_again()  # at once: under RESP2 a grant overtakes replies

        call.on_reply = answered_behind_the_grant

    def _comes_from_another(self, *, local: bool) -> None:
        """Have it told that the lock is not taken, but handed over."""
        first = self.contender.waiters.first()
        if first is not None and first.story is not None:
            first.story.comes_from_another(local=local)

    def on_grant(self, grant: Grant, server_clock: ServerClock) -> None:
        """
        Take the lease that a message grants, unless it may be over already.

        :param server_clock: of the server that granted it
        """
        engine = self.contender.engine
        now = engine.clock()
        earliest = server_clock.earliest(grant.server_us)
        granted_at = None if earliest is None else min(earliest, now)
        if granted_at is None or now >= deadline(granted_at, grant.ttl):
            self.ask_again()
            return
        self._comes_from_another(local=False)
        self.contender.granted(self, grant, granted_at, deadline(granted_at, grant.ttl))
        lease = self.contender.process_lease
        if lease is not None and grant.ttl < lease.options.ttl:
            # The claim: the body does not wait for it, and it is dropped if the
            # release leaves in the same turn.
            engine.watchdog.renew(lease)
