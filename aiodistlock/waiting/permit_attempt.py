"""What one process asks of a semaphore, on behalf of all its local waiters for permits.

Rules
-----
1. Each lease that is wanted has a token of its own, and a place of its own in the queue.  One
   request names all of them, in order, and whatever it is answered is the answer for all.
2. A token is no waiter's: what it is granted goes to the first in the local FIFO.  So a waiter that
   leaves, or is handed permits by a neighbour, changes nothing at Redis but how many are wanted.
3. No more is wanted at a time than the limit: what cannot be had together need not queue
   together, and other processes come between.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Protocol, cast

from aiodistlock.core.keys import LockKeys
from aiodistlock.core.permit_options import PermitOptions
from aiodistlock.protocol.answers import Failed, Held, Permits, PermitsReply, Queued
from aiodistlock.protocol.permits import PermitStore, Want
from aiodistlock.waiting.attempt import Attempt, Contending
from aiodistlock.waiting.client_state import ClientState
from aiodistlock.waiting.waiters import Waiter

MOST_WANTED = 64
"""Most leases that one request asks for: so it keeps the server for half a millisecond at most."""


class PermitContending(Contending, Protocol):
    """On whose behalf an attempt asks for permits."""

    __slots__ = ()

    def answered(self, attempt: PermitAttempt, reply: Permits, until: float) -> None:
        """Take the leases; the attempt is over if nobody waits any more."""
        ...


def permit_options(waiter: Waiter) -> PermitOptions:
    """Return how many permits a waiter wants, and by which limit."""
    return cast("PermitOptions", waiter.options)


class PermitAttempt(Attempt):
    """All that is wanted of one semaphore, until all of it is granted or abandoned."""

    __slots__ = ("limit", "tries_asked", "wants")

    contender: PermitContending

    def __init__(
        self,
        contender: PermitContending,
        client: ClientState[Attempt],
        keys: LockKeys,
        first: Waiter,
    ) -> None:
        super().__init__(contender, client, keys, first)
        options = permit_options(first)
        self.limit = options.limit
        self.wants = {self.token: Want(self.token, options.permits, first.waits)}
        """What is wanted, in the order in which it queues."""
        self.tries_asked: list[Waiter] = []
        """Who only tries, and is refused by the answer under way if it brings nothing."""

    def want_more(self) -> bool:
        """Want something for each of the first local waiters; tell whether that is more."""
        spare = Counter((want.permits, want.waits) for want in self.wants.values())
        room = self.limit - sum(want.permits for want in self.wants.values())
        before = len(self.wants)
        for waiter in _present(self.contender.waiters):
            kind = permits, waits = permit_options(waiter).permits, waiter.waits
            if spare[kind]:
                spare[kind] -= 1
                continue
            room -= permits
            if self.wants and (room < 0 or len(self.wants) >= MOST_WANTED):
                break
            token = self.client.next_token()
            self.client.attempts[token] = self
            self.wants[token] = Want(token, permits, waits)
        return len(self.wants) > before

    def withdraw(self) -> list[Want]:
        """Want no more than there are waiters for; return what was wanted besides."""
        spare = Counter((want.permits, want.waits) for want in self.wants.values())
        for waiter in _present(self.contender.waiters):
            spare[permit_options(waiter).permits, waiter.waits] -= 1
            if max(spare.values(), default=0) <= 0:
                return []
        withdrawn = []
        for want in reversed(self.wants.values()):
            if spare[want.permits, want.waits] > 0:
                spare[want.permits, want.waits] -= 1
                withdrawn.append(want)
        for want in withdrawn:
            self.settle(want.token)
        return withdrawn

    def settle(self, token: bytes) -> Want | None:
        """Want no more what a token stands for; ``None`` if that is so already."""
        self.client.attempts.pop(token, None)
        return self.wants.pop(token, None)

    def ask(self) -> None:
        """Send the request, or send it again, with whatever else is wanted by now."""
        self.moved = False
        self.cancel_timer()
        self.want_more()
        self.tries_asked = [each for each in self._asked_for() if not each.waits]
        store = cast("PermitStore", self.client.store)
        self.call = store.acquire_permits(
            self.keys,
            list(self.wants.values()),
            limit=self.limit,
            ttl_ms=self.options.ttl_ms,
            grant_ttl_ms=self.options.grant_ttl_ms,
            on_reply=self.answered_permits,
        )

    def _asked_for(self) -> Iterator[Waiter]:
        """Yield the local waiters for whom something is wanted."""
        left = Counter((want.permits, want.waits) for want in self.wants.values())
        for waiter in _present(self.contender.waiters):
            kind = permit_options(waiter).permits, waiter.waits
            if left[kind]:
                left[kind] -= 1
                yield waiter
            elif not left.total():
                return

    def end(self) -> None:
        """Let go of what is planned or in flight: the attempt is over."""
        super().end()
        for token in self.wants:
            self.client.attempts.pop(token, None)

    def answered_permits(self, reply: PermitsReply) -> None:
        """Go on after the answer to the request, unless the attempt is over."""
        if self.over:
            return
        if type(reply) is Failed:
            self.failed(reply)
            return
        assert isinstance(reply, Permits), "the only other answer"
        self.failure = None
        until = reply.sent_at + self.options.relied_on
        if reply.leases and self.client.clock() >= until:
            self.ask()  # read too late: for a fresh ttl
        else:
            self.contender.answered(self, reply, until)

    def go_on(self, waits: Queued | Held | None) -> None:
        """Wait for permits, and ask again when word of them may have been lost."""
        if self.want_more() or (type(waits) is Held and self.client.connection.listen(self.keys)):
            self.ask()
        else:
            self.ask_later(waits)


def _present(waiters: Iterable[Waiter]) -> Iterator[Waiter]:
    return (waiter for waiter in waiters if not waiter.future.done())
