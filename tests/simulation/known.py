"""What a judge knows of each name: who was granted it, who holds it, who waits for it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

from aiodistlock import Lease
from tests.simulation.linearizability import Operation, operations_of
from tests.simulation.liveness import Wait
from tests.simulation.process import Process


def members_of(value: object) -> dict[bytes, float]:
    """Return the sorted set that stands at a key; an empty one if none does."""
    return value if isinstance(value, dict) else {}


@dataclass(frozen=True)
class Violation:
    """What must never be, and was."""

    rule: str
    at: float
    what: str


class Change(NamedTuple):
    """What a request made of a key: of its value, and of its end in ms."""

    was: bytes | None
    ended: int | None
    value: bytes | None
    end: int | None
    now_ms: int


@dataclass(eq=False)
class Held:
    """One lease, from its holder's word that it has it to its word that it has not."""

    process: Process
    lease: Lease
    name: str
    grant: Grant
    began_at: float
    asked_at: float
    ended_at: float = math.inf
    relied_on: list[tuple[float, float]] = field(default_factory=list)
    """From when to when it was looked whether it was still held, and it was."""
    struck: int = 0
    """How many strikes there had been when it began."""
    hardly: bool = False
    """Whether it was nearly over when it began: a busy loop read late that it was granted."""
    kind: str = "lock"
    """With what it was taken: that, or a key of ``kinds.KINDS``."""

    def relies(self) -> bool:
        """Tell whether its holder relies on it at this instant, by the holder's own clock."""
        return self.ended_at == math.inf and self.lease.is_held

    def operations(self) -> list[Operation]:
        """Return what its holder did."""
        until = self.relied_on[-1][1] if self.relied_on else self.began_at
        fence = self.lease.fencing_token
        return operations_of(fence, self.asked_at, self.began_at, self.relied_on, until)

    def __str__(self) -> str:
        return f"{self.lease.token} (fence {self.lease.fencing_token})"


@dataclass(eq=False)
class PlainHeld:
    """
    What a lock without fencing tokens holds, by its holder's word.

    :ivar deadline: by its process's clock
    """

    process: Process
    token: bytes
    deadline: float
    grant: Grant
    over: bool = False

    def relies(self) -> bool:
        """Tell whether its holder relies on it at this instant."""
        return not self.over and self.process.clock() < self.deadline

    def __str__(self) -> str:
        return f"{self.token.decode()} (no fence)"


def token_of(value: bytes) -> bytes:
    """Return the token of a value, which may stand there alone."""
    return value.rpartition(b" ")[0] or value


@dataclass(eq=False)
class Grant:
    """What a server wrote at a key."""

    value: bytes
    token: bytes
    fence: int
    at: float
    used: int = 0
    """The highest fencing token that a local holder had."""


@dataclass(eq=False)
class Name:
    """What is known of one name."""

    queue_key: bytes
    grants: list[Grant] = field(default_factory=list)
    plain: dict[bytes, Grant] = field(default_factory=dict)
    """Of those without fencing tokens, by token."""
    open: list[Held | PlainHeld] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    """All that there were."""
    used: int = 0
    """The highest fencing token that any holder had."""
    stored: int = 0
    """The highest that the fenced store has seen."""
    stored_grant: int = -1
    """How many grants there were before that of its writer."""
    given_up: set[bytes] = field(default_factory=set)
    """Tokens whose own process has ended their lease."""
    queue: dict[bytes, None] = field(default_factory=dict)
    """Records of those who wait, in the order in which they came."""
    wait: Wait = field(default_factory=Wait)
    waited_since: float = 0.0
    """True time since when somebody has waited, if anybody does."""
    free_since: float = math.inf
    """True time since when nobody has held it, after somebody had."""
    stored_since: float = -1.0
    """When the lease of its writer began."""
