"""One connection on which the doctor asks, each question bounded in time."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import anyio
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from aiodistlock.connection.error_replies import as_error_reply
from aiodistlock.connection.opening import discard, open_connection
from aiodistlock.core.escaping import MOST_OF_ERROR, message_of, shown
from aiodistlock.protocol.refusals import is_full

from .targets import Endpoint

_LESS_CROWDED = (
    "raise maxclients, or close clients that are idle (CLIENT LIST shows them, timeout closes them)"
)
_PATIENCE = 0.5
"""Seconds: a server that does not want us says so at once, or waits for us to speak."""

Question = tuple[str | bytes | int, ...]


class Silent(Exception):
    """
    The server cannot be reached, or gives no more answers; says why.

    :ivar remedy: what to do about it; empty where there is nothing particular to do
    """

    def __init__(self, why: str, remedy: str = "") -> None:
        super().__init__(why)
        self.remedy = remedy

    @property
    def advised(self) -> str:
        """Both in one line."""
        return f"{self}: {self.remedy}" if self.remedy else str(self)


class Session:
    """
    A connection of redis-py's, opened as the locks would open it.

    redis-py's own timeouts are off: on Python 3.11 they may swallow a cancellation.

    :param timeout: how long to wait for the connection, and for each answer, seconds
    """

    def __init__(self, endpoint: Endpoint, timeout: float) -> None:
        self.endpoint = endpoint
        self._timeout = timeout
        self._connection: Any = None

    async def __aenter__(self) -> Self:
        try:
            self._connection = await open_connection(
                self.endpoint.pool(self._timeout), within=self._timeout
            )
        except TimeoutError:
            raise Silent(f"does not answer within {self._timeout:g} s") from None
        except (RedisError, OSError, ValueError) as error:
            raise await self._unopened(error) from None
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._close()

    async def _unopened(self, error: Exception) -> Silent:
        """Tell why there is no connection."""
        silent = _silent(error)
        if isinstance(error, RedisConnectionError | ConnectionError) and not silent.remedy:
            # Where we spoke first, the server's last words may have gone with the connection.
            return await self._parting_words() or silent
        return silent

    async def _parting_words(self) -> Silent | None:
        """Connect, say nothing, and return what the server says before it hangs up, if it does."""
        with (
            suppress(TimeoutError, OSError, ValueError),
            anyio.move_on_after(min(_PATIENCE, self._timeout)),
        ):
            try:
                mute = await open_connection(self.endpoint.pool(self._timeout), _say_nothing)
                try:
                    await mute.read_response()
                finally:
                    await discard(mute)
            except RedisError as error:
                return _silent(error)
        return None

    def another(self) -> Session:
        """Return one more session with the same server, to be entered."""
        return Session(self.endpoint, self._timeout)

    async def ask(self, *words: str | bytes | int) -> Any:
        """
        Ask, and wait for the answer.

        :raises ResponseError: if the server refuses
        :raises Silent: if it does not answer in time; the session is over then
        """
        (reply,) = await self.ask_all([words])
        if isinstance(reply, ResponseError):
            raise reply
        return reply

    async def ask_all(self, questions: Sequence[Question]) -> list[Any]:
        """
        Ask what does not depend on each other at once, so that the way counts once.

        :return: the answers in order, a refusal as the ``ResponseError`` that it is
        :raises Silent: if one does not come in time; the session is over then
        """
        if self._connection is None:
            raise Silent("the connection is closed")
        packed = self._connection.pack_commands(questions)
        try:
            await self._connection.send_packed_command(packed, check_health=False)
            return [await self._answer(words) for words in questions]
        except BaseException as error:
            # What comes now would answer the wrong question.
            await self._close()
            if isinstance(error, RedisError | OSError):
                raise _silent(error) from None
            raise

    async def _answer(self, words: Question) -> Any:
        try:
            with anyio.fail_after(self._timeout):
                return await self._connection.read_response(
                    disable_decoding=True, disconnect_on_error=False
                )
        except TimeoutError:
            told = f"no answer to {text(words[0])} within {self._timeout:g} s"
            raise Silent(told) from None
        except RedisError as error:
            if (refusal := as_error_reply(error)) is None:
                raise
            return refusal

    async def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await discard(connection)


async def _say_nothing(connection: Any) -> None:
    for said in ("credential_provider", "username", "password", "client_name", "db"):
        setattr(connection, said, None)
    connection.driver_info = connection.lib_name = connection.lib_version = None
    await connection.connect()


def _silent(error: Exception) -> Silent:
    if isinstance(error, AuthenticationError):
        return Silent("user or password missing or wrong")
    why = message_of(error).rstrip(".") or type(error).__name__
    return Silent(why, _LESS_CROWDED if is_full(error) else "")


def text(value: Any) -> str:
    """Decode a string of an answer."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def pairs(reply: Any) -> dict[str, str]:
    """Read an answer of names and values: RESP3's map, or RESP2's flat list."""
    if isinstance(reply, dict):
        return {_fact(name): _fact(value) for name, value in reply.items()}
    flat = [_fact(each) for each in reply]
    return dict(zip(flat[::2], flat[1::2], strict=False))


def lines(reply: Any) -> dict[str, str]:
    """Read an answer of ``name:value`` lines, as of INFO."""
    found = (line.partition(":") for line in text(reply).splitlines())
    return {name: _fact(value) for name, colon, value in found if colon}


def _fact(value: Any) -> str:
    return shown(value, MOST_OF_ERROR)
