"""One acquisition at Redis, on behalf of all local waiters for a name."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiodistlock.engine.waiter import Waiter
from aiodistlock.stores.base import AcquireReply, Call, PassOnReply

if TYPE_CHECKING:
    from aiodistlock.engine.contender import Contender


class Attempt:
    """One acquisition at Redis, under one token, until it is granted or abandoned."""

    __slots__ = (
        "call",
        "contender",
        "failing_since",
        "grant_ttl_ms",
        "options",
        "queues",
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
        self.grant_ttl_ms = contender.engine.grant_ttl_ms(first.options)
        self.call: Call[AcquireReply] | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.tries = 0
        self.failing_since: float | None = None

    def answered(self, reply: AcquireReply) -> None:
        """Take in the answer to the request, unless the attempt is over."""
        if self.contender.attempt is self:
            self.contender.on_acquire_reply(self, reply)

    def passed_on(self, reply: PassOnReply) -> None:
        """Take in the answer to the request that passed the former lease on."""
        if self.contender.attempt is self:
            self.contender.on_pass_on_reply(self, reply)

    def ask(self) -> None:
        """Send the request, or send it again."""
        self.cancel_timer()
        contender = self.contender
        self.call = contender.engine.store.acquire(
            contender.keys,
            self.token,
            self.options.ttl_ms,
            self.grant_ttl_ms if self.queues else None,
            self.answered,
        )

    def ask_again(self) -> None:
        """Send the request again, unless one is still unanswered."""
        self.timer = None
        if self.call is None or self.call.done:
            self.ask()

    def ask_later(self, remaining: float | None = None) -> None:
        """Send the request again after a pause, or when the holder's ttl runs out."""
        engine = self.contender.engine
        pause = self.options.backoff.delay(self.tries, engine.rng)
        if remaining is not None:
            pause = min(pause, remaining + engine.rng.uniform(0.001, 0.01))
        self.tries += 1
        self.cancel_timer()
        self.timer = engine.loop.call_later(pause, self.ask_again)

    def cancel_timer(self) -> None:
        """Forget the planned request."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def end(self) -> None:
        """Let go of what is planned or in flight: the attempt is over."""
        self.cancel_timer()
        self.contender.engine.attempts.pop(self.token, None)
        if self.call is not None and not self.call.done:
            self.call.obsolete = True
