"""Asking a server a few questions over a connection of their own."""

from __future__ import annotations

import asyncio
from typing import Any

from aiodistlock.connection.wire import Unreadable, Wire, pack
from aiodistlock.core.clock import local_clock


async def exchange(connection: Any, *commands: tuple[bytes, ...]) -> list[Any]:
    """
    Return the replies, refusals among them; the connection ends with it.

    Where it is lost meanwhile, at a command that the other side does not know, say, the error
    stands for what has no answer.  So one is asked after the other.

    :raises ConnectionError: if it is lost before any
    """
    replies: list[Any] = []
    answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def received(reply: Any) -> None:
        if answer.done():
            raise Unreadable("nobody asked for it", reply)
        replies.append(reply)
        if len(replies) == len(commands):
            answer.set_result(None)
        else:
            wire.write(pack(commands[len(replies)]))

    def lost(error: Exception) -> None:
        if answer.done():
            return
        said = b" ".join(commands[len(replies)]).decode()
        unanswered = ConnectionError(f"{error} (no answer to {said})")
        if replies:
            replies.extend([unanswered] * (len(commands) - len(replies)))
            answer.set_result(None)
        else:
            answer.set_exception(unanswered)

    wire = Wire(connection, received, lambda _push: None, lost, local_clock)
    try:
        wire.write(pack(commands[0]))
        await answer
    finally:
        wire.drop()
    return replies
