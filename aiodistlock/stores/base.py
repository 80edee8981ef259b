"""What the engine asks of a store.

A request is a :class:`Call`.  It is issued at once, synchronously, in the order of
the code; whoever wants the answer passes ``on_reply`` (no task, no future) or awaits
the call.  Reply numbers stay inside the store: callers see the types of ``answers``.
"""

from __future__ import annotations

import math
from asyncio import AbstractEventLoop, Future, get_running_loop
from collections.abc import Callable, Generator
from typing import Any, Generic, Protocol, TypeVar

from aiodistlock.core.clock import ServerClock
from aiodistlock.core.keys import LockKeys
from aiodistlock.stores.answers import (
    AbandonReply,
    AcquireReply,
    InspectReply,
    PassOnReply,
    ReleaseReply,
    RenewReply,
)
from aiodistlock.stores.wake import settle

R = TypeVar("R")


class Call(Generic[R]):
    """
    One request on its way to the store.

    Awaiting it is optional, and cancelling the wait does not take the request back.
    """

    __slots__ = ("_awaiting", "obsolete", "on_reply", "reply", "resent", "sent_at")

    def __init__(self, on_reply: Callable[[R], object] | None = None) -> None:
        self.on_reply = on_reply
        self.reply: R | None = None
        self.sent_at = 0.0
        """Local instant before the request was last sent."""
        self.resent = False
        """Whether an earlier copy of the request may have run too."""
        self.obsolete = False
        """Nobody wants the answer: drop it if unsent, do not send it again."""
        # One each, so that a task that is cancelled takes no other along.
        self._awaiting: list[Future[R]] | None = None

    @property
    def done(self) -> bool:
        """Whether the answer is there."""
        return self.reply is not None

    def finish(self, reply: R) -> None:
        """Deliver the answer, to whoever wants it; later answers are dropped."""
        if self.reply is not None:
            return
        self.reply = reply
        on_reply = self.on_reply
        if on_reply is not None:
            # Let go of, or it and this call would keep each other until the collector
            # comes, which then takes a third of the CPU.
            self.on_reply = None
            on_reply(reply)
        if self._awaiting is not None:
            for future in self._awaiting:
                if not future.done():
                    settle(future, reply)

    def tell(self, on_reply: Callable[[R], object]) -> None:
        """Deliver the answer to ``on_reply``, of a call that was made without one."""
        if self.reply is not None:
            on_reply(self.reply)
        else:
            self.on_reply = on_reply

    def drop(self, reply: R) -> None:
        """Answer whoever awaits it in the server's place, and nobody else."""
        self.obsolete = True
        self.on_reply = None
        self.finish(reply)

    def answer(self, loop: AbstractEventLoop) -> Future[R]:
        """Return a future of the answer, in the running loop."""
        future: Future[R] = Future(loop=loop)
        if self.reply is not None:
            future.set_result(self.reply)
        elif self._awaiting is None:
            self._awaiting = [future]
        else:
            self._awaiting.append(future)
        return future

    def __await__(self) -> Generator[Any, None, R]:
        return self.answer(get_running_loop()).__await__()


class Store(Protocol):
    """
    Where locks are kept.

    Each operation has the effect of exactly one, however often it is sent.  Methods
    do not block and do not raise: they issue the request and return its call.
    """

    def acquire(
        self,
        keys: LockKeys,
        token: bytes,
        ttl_ms: int,
        grant_ttl_ms: int | None,
        on_reply: Callable[[AcquireReply], object],
    ) -> Call[AcquireReply]:
        """Take the lock, or queue for it with ``grant_ttl_ms``; ``None``: only try."""
        ...

    def pass_on(
        self,
        keys: LockKeys,
        token: bytes,
        next_token: bytes,
        *,
        ttl_ms: int,
        grant_ttl_ms: int,
        highest: int,
        on_reply: Callable[[PassOnReply], object],
    ) -> Call[PassOnReply]:
        """Let the next process have the lock and queue again, or keep it."""
        ...

    def release(
        self,
        keys: LockKeys,
        token: bytes,
        highest: int,
        until: float,
    ) -> Call[ReleaseReply]:
        """
        Give the lock up.

        :param highest: highest fencing token used by local hand-offs, 0 for none
        :param until: local instant at which the key expires anyway: no answer is
            waited for after it
        """
        ...

    def renew(
        self,
        keys: LockKeys,
        token: bytes,
        ttl_ms: int,
        on_reply: Callable[[RenewReply], object] | None = None,
        until: float = math.inf,
    ) -> Call[RenewReply]:
        """
        Set the remaining time of the lease to ``ttl_ms``.

        :param until: local instant after which no answer is waited for
        """
        ...

    def abandon(self, keys: LockKeys, token: bytes, grant_ttl_ms: int | None) -> Call[AbandonReply]:
        """Undo an acquisition: leave the queue, give up what was granted."""
        ...

    def inspect(self, keys: LockKeys) -> Call[InspectReply]:
        """Ask who holds the lock and who waits."""
        ...

    def listen(self, keys: LockKeys) -> bool:
        """
        See to it that grants for these keys are heard soon.

        Returns whether they are heard now, so that queueing makes sense.
        """
        ...

    def server_clock(self, call: Call[Any]) -> ServerClock:
        """Return the clock of the server that answered a call: of several each has its own."""
        ...

    def suspect(self, call: Call[Any]) -> None:
        """Take note that ``call`` stayed unanswered for longer than it should."""
        ...

    async def aclose(self) -> None:
        """Send what was issued, within a bound, and close the connections."""
        ...

    def stop(self) -> None:
        """Close the connections at once."""
        ...

    @property
    def stopped(self) -> bool:
        """Whether nothing can be sent any more."""
        ...

    def disown(self) -> None:
        """Send nothing any more: after a fork the connections are the parent's."""
        ...
