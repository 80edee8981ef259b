"""A listener that remembers, and what a whole story looks like."""

import asyncio
import re
from collections import defaultdict
from typing import TypeVar

from aiodistlock import (
    Abandoned,
    Acquired,
    HandedOver,
    Lingered,
    LockEvent,
    Lost,
    Released,
    Renewed,
    Unavailable,
    Waiting,
)

E = TypeVar("E", bound=LockEvent)

_LETTERS: dict[type[LockEvent], str] = {
    Waiting: "W",
    HandedOver: "H",
    Acquired: "A",
    Renewed: "n",
    Lost: "L",
    Released: "R",
    Lingered: "g",
    Abandoned: "B",
    Unavailable: "U",
}
_WHOLE = re.compile(r"W(H?An*(g?n*[LR]|Rg)|B|U)")


class Told:
    """Remembers all events, in order."""

    def __init__(self) -> None:
        self.events: list[LockEvent] = []
        self._news = asyncio.Event()

    def __call__(self, event: LockEvent) -> None:
        """Remember an event."""
        self.events.append(event)
        self._news.set()

    @property
    def order(self) -> str:
        """The events in order, as in ``"W1 A1 R1"``; acquisitions are counted from 1."""
        numbers: dict[int, int] = {}
        return " ".join(
            f"{_LETTERS[type(event)]}{numbers.setdefault(event.acquisition, len(numbers) + 1)}"
            for event in self.events
        )

    @property
    def stories(self) -> list[str]:
        """What was told of each acquisition, as in ``"WAR"``."""
        told: defaultdict[int, str] = defaultdict(str)
        for event in self.events:
            told[event.acquisition] += _LETTERS[type(event)]
        return list(told.values())

    def all(self, kind: type[E]) -> list[E]:
        """All events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def only(self, kind: type[E]) -> E:
        """The one event of a kind."""
        (event,) = self.all(kind)
        return event

    def check_whole(self) -> None:
        """Check that each story is a whole one."""
        broken = [story for story in self.stories if not _WHOLE.fullmatch(story)]
        assert not broken, broken

    async def until(self, kind: type[LockEvent], count: int = 1) -> None:
        """Wait until so many events of a kind were told."""
        while len(self.all(kind)) < count:
            self._news.clear()
            await self._news.wait()
