"""What a lock's siblings are to a worker, whoever makes them.

To add one: its row in the table of ``ours_siblings`` and of ``redis_py_siblings``, and its case in
``bench/workloads/siblings.py``.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Protocol

NAMES = 5
"""How many names there are to be held together."""

SUBSET = 3
"""How many of them a task that contends holds: any two such have one in common."""


class Window(Protocol):
    """A job that is done once a window, by one task."""

    async def run(self, window: int, body: Callable[[], Awaitable[object]]) -> bool:
        """Do a window if it is not done; tell whether it was ours."""
        ...


class Entry:
    """
    What a task enters over and over, where each block is an object of its own.

    :param block: makes the next one
    """

    def __init__(self, block: Callable[[], AbstractAsyncContextManager[Any]]) -> None:
        self._block = block
        self._open: AbstractAsyncContextManager[Any] | None = None

    async def __aenter__(self) -> Any:
        block = self._block()
        entered = await block.__aenter__()
        self._open = block
        return entered

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        block, self._open = self._open, None
        assert block is not None, "it was entered"
        return await block.__aexit__(exc_type, exc, traceback)


class SiblingPeer:
    """
    Siblings of one kind, on one connected client.

    :param make: makes that of a name, for one task
    """

    def __init__(self, make: Callable[[str], Any]) -> None:
        self.lock = make


def own_names(name: str) -> list[str]:
    """Return the names that only one task wants, together."""
    return [f"{name}:{number}" for number in range(NAMES)]


def some_names(name: str) -> Sequence[str]:
    """Return some of the names that all tasks want some of, at random."""
    return random.sample(own_names(name), SUBSET)
