"""What a client library says first on a connection, and those who hang up at it.

redis-py asks for RESP3, names itself, and more.  Some proxies close the connection at a
command that they do not know, and all that is heard of it is that the connection was closed.

Rules
-----
1. The error names what was being said, and what to set so that it is not.
2. After a few connections in a row that ended so, the next one goes without, if it can (see
   ``connection/unsupported_commands.py``).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from aiodistlock.connection.unsupported_commands import MOST_CUT_OFF, UnsupportedCommands
from aiodistlock.protocol.refusals import is_full

logger = logging.getLogger("aiodistlock")


class _Without(NamedTuple):
    advice: str
    attributes: dict[str, Any]
    """Of a connection that does not say it."""


_NO_NAME: dict[str, Any] = {"driver_info": None, "lib_name": None, "lib_version": None}
_WITHOUT = {
    "HELLO": _Without("protocol=2", {"protocol": 2}),
    "CLIENT SETINFO": _Without("driver_info=None (lib_name=None before redis-py 7.1)", _NO_NAME),
    "CLIENT SETNAME": _Without("client_name=None", {"client_name": None}),
    "CLIENT MAINT_NOTIFICATIONS": _Without(
        "maint_notifications_config=MaintNotificationsConfig(enabled=False)",
        {"maint_notifications_config": None},
    ),
}


class Handshake:
    """
    What is said on the connections of one opener.

    :param resp2: whether RESP2 will do where RESP3 is not understood
    """

    __slots__ = ("_resp2", "_unsupported")

    def __init__(self, *, resp2: bool = True) -> None:
        self._resp2 = resp2
        self._unsupported = UnsupportedCommands()

    @contextmanager
    def on(self, connection: Any) -> Iterator[None]:
        """
        Have a connection say no more than it can, and an error tell what it was.

        :raises ConnectionError: if the other side hangs up at a command
        :raises TimeoutError: if a command gets no answer
        """
        for command in self._unsupported.commands:
            for name, value in _WITHOUT[command].attributes.items():
                if hasattr(connection, name):
                    setattr(connection, name, value)
        unanswered: deque[str] = deque()
        try:
            with _overheard(connection, unanswered):
                yield
        except Exception as error:
            command = unanswered[0] if unanswered else ""
            hung_up = bool(command) and _is_hang_up(error)
            self._ended(command if hung_up and not isinstance(error, TimeoutError) else "")
            if not hung_up:
                raise
            which = " or ".join(dict.fromkeys(unanswered))
            if isinstance(error, TimeoutError):
                raise TimeoutError(f"{error} (no answer to {which})") from error
            raise ConnectionError(f"{self._told(command, which)} ({error})") from error
        self._unsupported.passed()

    def _ended(self, at: str) -> None:
        possible = at in _WITHOUT and (self._resp2 or at != "HELLO")
        if self._unsupported.ended(at if possible else ""):
            logger.warning("%s, %d times in a row: going without", self._told(at, at), MOST_CUT_OFF)

    def _told(self, command: str, which: str) -> str:
        advice = f"{_WITHOUT[command].advice} leaves it out" if command in _WITHOUT else ""
        if command == "HELLO" and not self._resp2:
            advice = "grants are heard by RESP3 only"
        return f"the other side hung up at {which}{advice and '; '}{advice}"


def _is_hang_up(error: Exception) -> bool:
    # redis-py's own, too, but none of its subclasses: those are answers.  So is this text, of
    # which redis-py makes such an error as well.
    hung_up = isinstance(error, OSError) or type(error).__name__ == "ConnectionError"
    return hung_up and not is_full(error)


@contextmanager
def _overheard(connection: Any, unanswered: deque[str]) -> Iterator[None]:
    """Keep the names of commands that have no answer yet, if they go the way of redis-py's."""
    send, read = getattr(connection, "send_command", None), connection.read_response
    if send is None:
        yield
        return

    async def send_command(*args: Any, **kwargs: Any) -> Any:
        words = 2 if args[0] == "CLIENT" else 1
        unanswered.append(" ".join(str(each) for each in args[:words]))
        return await send(*args, **kwargs)

    async def read_response(*args: Any, **kwargs: Any) -> Any:
        try:
            reply = await read(*args, **kwargs)
        except Exception as error:
            if unanswered and not _is_hang_up(error):
                unanswered.popleft()
            raise
        if unanswered:
            unanswered.popleft()
        return reply

    connection.send_command, connection.read_response = send_command, read_response
    try:
        yield
    finally:
        del connection.send_command, connection.read_response
