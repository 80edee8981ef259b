"""One acquisition at Redis, on behalf of all local waiters for a name.

It asks, and asks again when there is reason to, and reports what Redis said.  What follows
from that is its contender's to decide.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol

from aiodistlock.core.backoff import Backoff
from aiodistlock.core.clock import Timer
from aiodistlock.core.keys import LockKeys
from aiodistlock.core.value import value_of
from aiodistlock.protocol.answers import (
    AcquireReply,
    Failed,
    Granted,
    Held,
    PassOnReply,
    Queued,
)
from aiodistlock.protocol.call import Call
from aiodistlock.protocol.grant_message import Grant
from aiodistlock.waiting.client_state import ClientState
from aiodistlock.waiting.pauses import pause, pause_refused
from aiodistlock.waiting.tokens import hands_over
from aiodistlock.waiting.waiters import Waiter, Waiters

SPLIT = Backoff(initial=0.001, factor=2.0, cap=1.0, jitter=1.0)
"""Pauses after votes that were split one after another: those who contend soon miss each
other, and what a dead one left behind is not asked for all the time."""


class Contending(Protocol):
    """On whose behalf an attempt asks, and to whom it reports: a ``Contender``."""

    __slots__ = ()

    waiters: Waiters
    came_after: float
    """Instant after which the holder got the lock."""

    @property
    def keys(self) -> LockKeys:
        """The keys of the name."""
        ...

    def granted(
        self, attempt: Attempt, reply: Granted | Grant, granted_at: float, until: float
    ) -> None:
        """Take the lease; the attempt is over."""
        ...

    def granted_by_message(
        self, attempt: Attempt, grant: Grant, granted_at: float, ttl: float
    ) -> None:
        """Take the lease that another process handed over; the attempt is over."""
        ...

    def queued(self, reply: Queued) -> None:
        """Take note of whom Redis has us wait for."""
        ...

    def held(self, attempt: Attempt, reply: Held) -> None:
        """Take note of who holds the lock; end an attempt that just tries."""
        ...

    def failed(self, attempt: Attempt, failed: Failed) -> None:
        """Fail those whose time is over; end the attempt if nobody is left."""
        ...

    def passed_on(self, attempt: Attempt, reply: PassOnReply) -> None:
        """Take in that the former lease is over, or begins anew and the attempt is over."""
        ...

    def comes_from_another(self, *, local: bool) -> None:
        """Have it told that the lock is not taken, but handed over."""
        ...

    def close(self, problem: str) -> None:
        """End all waits and the lease of this process, and send the clean-up."""
        ...


class Attempt:
    """One acquisition at Redis, under one token, until it is granted or abandoned."""

    __slots__ = (
        "call",
        "client",
        "contender",
        "failure",
        "keys",
        "lingers",
        "moved",
        "options",
        "over",
        "queues",
        "splits",
        "timer",
        "token",
        "tries",
        "unheard",
    )

    def __init__(
        self, contender: Contending, client: ClientState[Attempt], keys: LockKeys, first: Waiter
    ) -> None:
        self.contender = contender
        self.client = client
        self.keys = keys
        self.options = options = first.options
        self.lingers = lingers = options.linger > 0 and (
            not options.linger_auto or client.lingering.arming(keys.key).armed
        )
        """Whether its lease may linger: by its token others know whether to recall it."""
        self.token = token = client.next_lingering_token() if lingers else client.next_token()
        client.attempts[token] = self
        self.queues = first.waits
        """Whether to wait in the queue; not if the only waiter just tries."""
        self.call: Call[Any] | None = None
        self.timer: Timer | None = None
        self.tries = 0
        self.splits = 0
        """How many votes in a row were split."""
        self.failure: Failed | None = None
        """The last answer, if that decided nothing, since the first of its kind in a row."""
        self.moved = False
        """Whether to ask once more when the answer under way is there."""
        self.unheard = False
        """Whether it was queued, behind a lease passed on, while no grant would be heard."""
        self.over = False

    def ask(self) -> None:
        """Send the request, or send it again."""
        self.moved = False
        if self.timer is not None:
            self.cancel_timer()
        self.call = self.client.store.acquire(
            self.keys,
            self.token,
            self.options.ttl_ms,
            self.options.grant_ttl_ms if self.queues else None,
            self.answered,
        )

    def ask_again(self) -> None:
        """Send the request again, unless one is still unanswered, or all is over."""
        self.cancel_timer()
        if not self.over and (self.call is None or self.call.done):
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
        client = self.client
        backoff, foreign = self.options.backoff, self.options.foreign_backoff
        if seen is not None and foreign is not None and not hands_over(seen.holder):
            backoff = foreign
        delay = backoff.delay if self.failure is None else partial(pause_refused, backoff)
        seconds = pause(
            delay(self.tries, client.rng),
            remaining=None if seen is None else seen.remaining,
            place=0 if seen is None else seen.position,
            full=self.contender.came_after + self.options.ttl - client.clock(),
            rng=client.rng,
        )
        self.tries += 1
        self.cancel_timer()
        self.timer = client.timers.call_later(seconds, self.ask_again)

    def cancel_timer(self) -> None:
        """Forget the planned request."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def end(self) -> None:
        """Let go of what is planned or in flight: the attempt is over."""
        if self.timer is not None:
            self.cancel_timer()
        self.over = True
        self.client.attempts.pop(self.token, None)
        call = self.call
        if call is not None and call.reply is None:
            call.obsolete = True

    def answered(self, reply: AcquireReply) -> None:
        """Go on after the answer to the request, unless the attempt is over."""
        if self.over:
            return
        if type(reply) is Granted:
            self.granted(reply)
            return
        if type(reply) is not Failed:
            self.failure = None
        if type(reply) is Queued:
            self.queued(reply)
        elif type(reply) is Held:
            self.held(reply)
        elif type(reply) is Failed:
            self.failed(reply)

    def granted(self, reply: Granted) -> None:
        """Report the lease; if the answer is read too late, ask for a fresh ttl first."""
        until = reply.sent_at + self.options.relied_on
        if self.client.clock() < until:
            self.contender.granted(self, reply, reply.sent_at, until)
        elif reply.token is None:
            self.ask()
        else:
            # Each round has a token of its own, so this one's would bar the next.
            value = value_of(reply.token, reply.fence)
            self.client.store.release(self.keys, value, 0, until)
            self.ask_later()

    def queued(self, reply: Queued) -> None:
        """Wait for the grant, and ask again when it may have been lost."""
        assert self.call is not None, "it was answered"
        self.client.connection.server_clock(self.call).observe(reply.server_us, reply.sent_at)
        self.contender.queued(reply)
        if not self.over:
            self.ask_later(reply)

    def held(self, reply: Held) -> None:
        """Queue as soon as a grant would be heard; until then ask again."""
        self.contender.held(self, reply)
        if self.over:
            return
        if self.client.connection.listen(self.keys):
            self.ask()
        elif reply.split:
            self.ask_later(reply._replace(remaining=SPLIT.delay(self.splits, self.client.rng)))
            self.splits += 1
        else:
            self.splits = 0
            self.ask_later(reply)

    def failed(self, failed: Failed) -> None:
        """Go on for those whose time with an unavailable Redis is not over."""
        if self.failure is not None:
            failed = failed._replace(since=self.failure.since)
        self.failure = failed
        self.contender.failed(self, failed)
        if not self.over:
            self.ask_later()

    def passed_on(self, reply: PassOnReply) -> None:
        """Go on after the former lease was passed on, unless the attempt is over."""
        if not self.over:
            self.contender.passed_on(self, reply)
        if self.over:
            return
        if type(reply) is Granted:
            self.granted(reply)
        elif type(reply) is Queued:
            self.moved = self.moved or self.unheard
            self.queued(reply)
        elif type(reply) is Held:
            # A quorum has no queue: whoever was told to ask gets a moment to do so.
            self.ask_later(reply)
        elif type(reply) is Failed:
            self.failed(reply)
        else:
            self.ask()
