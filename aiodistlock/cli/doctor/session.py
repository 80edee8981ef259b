"""One connection on which the doctor asks, each question bounded in time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import anyio
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from aiodistlock.core.clock import local_clock
from aiodistlock.engine.opening import open_connection
from aiodistlock.engine.wire import Wire, pack

from .parting import CROWDED, parting_words
from .targets import Endpoint

BAD_CREDENTIALS = "user or password missing or wrong"
_LESS_CROWDED = (
    "raise maxclients, or close clients that are idle (CLIENT LIST shows them, timeout closes them)"
)

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
    A connection as the locks would open it: by redis-py's factory, read without it.

    :param timeout: how long to wait for the connection, and for each answer, seconds
    """

    def __init__(self, endpoint: Endpoint, timeout: float) -> None:
        self.endpoint = endpoint
        self._timeout = timeout
        self._wire: Wire | None = None
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._ended: Exception | None = None

    async def __aenter__(self) -> Self:
        try:
            with anyio.fail_after(self._timeout):
                connection = await open_connection(self.endpoint.pool(self._timeout))
        except TimeoutError:
            raise Silent(f"does not answer within {self._timeout:g} s") from None
        except AuthenticationError:
            raise Silent(BAD_CREDENTIALS) from None
        except (RedisError, OSError, ValueError) as error:
            raise await self._unopened(error) from None
        self._wire = Wire(connection, self._answered, _ignore, self._lost, local_clock)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close()

    async def _unopened(self, error: Exception) -> Silent:
        """Tell why there is no connection."""
        why = _why(error)
        if isinstance(error, RedisConnectionError) and CROWDED not in why:
            # Where we spoke first, the server's last words went with the connection.
            why = await parting_words(self.endpoint, self._timeout) or why
        return Silent(why, _LESS_CROWDED if CROWDED in why else "")

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
        if self._wire is None:
            raise Silent(_why(self._ended) if self._ended else "the connection is closed")
        loop = asyncio.get_running_loop()
        answers: list[asyncio.Future[Any]] = [loop.create_future() for _ in questions]
        self._waiting += answers
        packed = [
            pack(tuple(w.encode() if isinstance(w, str) else w for w in words))
            for words in questions
        ]
        self._wire.write(b"".join(packed))
        return [
            await self._awaited(answer, words)
            for answer, words in zip(answers, questions, strict=True)
        ]

    async def _awaited(self, answer: asyncio.Future[Any], words: Question) -> Any:
        try:
            with anyio.fail_after(self._timeout):
                reply = await answer
        except TimeoutError:
            self._close()
            raise Silent(f"no answer to {_shown(words[0])} within {self._timeout:g} s") from None
        except BaseException:
            # What comes now would answer the wrong question.
            self._close()
            raise
        if isinstance(reply, Silent):
            raise reply
        return reply

    def _answered(self, reply: Any) -> None:
        waiting = self._waiting.popleft() if self._waiting else None
        if waiting is not None and not waiting.done():
            waiting.set_result(reply)

    def _lost(self, error: Exception) -> None:
        self._wire, self._ended = None, error
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                # No exception: of several, asyncio would log those that nobody gets to see.
                waiting.set_result(Silent(_why(error)))

    def _close(self) -> None:
        wire, self._wire = self._wire, None
        self._waiting.clear()
        if wire is not None:
            wire.drop()


def _ignore(_push: list[Any]) -> None: ...


def _shown(word: str | bytes | int) -> str:
    return text(word) if isinstance(word, bytes) else str(word)


def _why(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def text(value: Any) -> str:
    """Decode a string of an answer."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def pairs(reply: Any) -> dict[str, str]:
    """Read an answer of names and values: RESP3's map, or RESP2's flat list."""
    if isinstance(reply, dict):
        return {text(name): text(value) for name, value in reply.items()}
    flat = [text(each) for each in reply]
    return dict(zip(flat[::2], flat[1::2], strict=False))


def lines(reply: Any) -> dict[str, str]:
    """Read an answer of ``name:value`` lines, as of INFO."""
    found = (line.partition(":") for line in text(reply).splitlines())
    return {name: value for name, colon, value in found if colon}
