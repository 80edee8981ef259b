"""One request to a store, and its answer to come.

It is issued at once, synchronously, in the order of the code; whoever wants the answer
passes ``on_reply`` (no task, no future) or awaits the call.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future, get_running_loop
from collections.abc import Callable, Generator
from typing import Any, Generic, TypeVar

from aiodistlock.protocol.wake import settle

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
