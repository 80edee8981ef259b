"""What a lock's siblings are to a worker, whoever makes them.

To add one: its row in the table of ``ours_siblings`` and of ``redis_py_siblings``, a module of its
own for a library that has it, and its case in ``bench/workloads/siblings.py``.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

NAMES = 5
"""How many names there are to be held together."""

SUBSET = 3
"""How many of them a task that contends holds: any two such have one in common."""

LIMIT = 50
"""Permits of the semaphore."""

READING = 0.9
"""Share of the times that a task reads, of a read/write lock: drawn each time."""

EVERYBODY = 1_000_000
"""Places that a writer takes, who is alone: all there are."""


class Window(Protocol):
    """A job that is done once a window, by one task."""

    async def run(self, window: int, body: Callable[[], Awaitable[object]]) -> bool:
        """Do a window if it is not done; tell whether it was ours."""
        ...


Block = AbstractAsyncContextManager[Any]


@dataclass(frozen=True)
class Places:
    """
    What several tasks hold at a time.

    :ivar most: how many places there are
    :ivar block: makes what a task enters next, and tells how many places that takes
    """

    most: int
    block: Callable[[], tuple[Block, int]]


def permits(block: Callable[[], Block]) -> Places:
    """Return a semaphore's places: each permit is one."""
    return Places(LIMIT, lambda: (block(), 1))


def readers_and_writers(
    read: Callable[[], Block], write: Callable[[], Block], reading: float
) -> Places:
    """Return a read/write lock's places: a reader takes one, and a writer all."""

    def block() -> tuple[Block, int]:
        return (read(), 1) if random.random() < reading else (write(), EVERYBODY)

    return Places(EVERYBODY, block)


class Entry:
    """
    What a task enters over and over, where each block is an object of its own.

    :param block: makes the next one
    """

    def __init__(self, block: Callable[[], Block]) -> None:
        self._block = block
        self._open: Block | None = None

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
