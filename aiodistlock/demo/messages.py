"""What the demo and its workers tell each other: one JSON object per line.

The demo speaks through a worker's stdin, the worker through its stdout. The Redis
URL travels here and not in the arguments, which every user of the machine can see.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from os import read
from typing import Final, TypeAlias

from .events import Event


class Act(StrEnum):
    """What guards the critical section."""

    NO_LOCK = "no_lock"
    NAIVE_SETNX = "naive_setnx"
    ASYNC_LOCK = "async_lock"


@dataclass(frozen=True)
class Setup:
    """First message to a worker: who it is and where things are."""

    number: int
    act: Act
    ledger: str
    redis_url: str
    namespace: str
    ttl: float
    tasks: int


@dataclass(frozen=True)
class Deliver:
    """One delivery of one event. A trapped one makes its worker wait inside."""

    delivery: int
    event_id: str
    wallet: str
    amount: int
    trapped: bool

    @property
    def event(self) -> Event:
        """The event that is delivered."""
        return Event(self.event_id, self.wallet, self.amount)


@dataclass(frozen=True)
class Watch:
    """Report the next grant of this wallet's lock, and the write that follows."""

    wallet: str


@dataclass(frozen=True)
class GoOn:
    """Leave the trap: write now."""


@dataclass(frozen=True)
class Finish:
    """Nothing more will be delivered: close and end."""


@dataclass(frozen=True)
class Ready:
    """The worker is connected and waits for deliveries."""


@dataclass(frozen=True)
class Acked:
    """Deliveries done since the last report.

    ``waits`` has one entry in microseconds for every acquisition.
    """

    deliveries: list[int]
    waits: list[int]


@dataclass(frozen=True)
class Inside:
    """The worker is trapped inside the critical section: has read, has not written."""

    delivery: int
    wallet: str
    fence: int | None


@dataclass(frozen=True)
class Granted:
    """The worker entered the critical section of a watched wallet.

    ``at`` is ``time.monotonic()``, which all processes of a machine share.
    """

    wallet: str
    fence: int | None
    at: float


@dataclass(frozen=True)
class Wrote:
    """The worker wrote a watched wallet."""

    wallet: str
    fence: int | None


@dataclass(frozen=True)
class Refused:
    """The ledger refused the worker's write: its fencing token is out of date."""

    event_id: str
    wallet: str
    fence: int


@dataclass(frozen=True)
class Failed:
    """The worker met an error that it cannot handle, and ends."""

    error: str


Order: TypeAlias = Setup | Deliver | Watch | GoOn | Finish
Report: TypeAlias = Ready | Acked | Inside | Granted | Wrote | Refused | Failed

_KINDS: Final = {
    kind.__name__: kind
    for kind in (
        *(Setup, Deliver, Watch, GoOn, Finish),
        *(Ready, Acked, Inside, Granted, Wrote, Refused, Failed),
    )
}


def encode(message: Order | Report) -> bytes:
    """Write a message as one line."""
    fields = {"kind": type(message).__name__, **vars(message)}
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> Order | Report:
    """Read a message that :func:`encode` wrote."""
    fields = json.loads(line)
    message: Order | Report = _KINDS[fields.pop("kind")](**fields)
    return message


def read_lines(descriptor: int) -> Iterator[bytes]:
    """Yield lines from a pipe, blocking, until the other side closes it.

    Unlike a buffered file it holds no lock that the end of the interpreter, with
    this iterator waiting in a daemon thread, would trip over.
    """
    rest = b""
    while chunk := read(descriptor, 65536):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
