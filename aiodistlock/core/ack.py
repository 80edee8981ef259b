"""Durability levels: who must have a lease before its holder gets it."""

from __future__ import annotations

import re
from dataclasses import dataclass

_REPLICAS = re.compile(r"replicas:([1-9]\d{0,2})")

WAIT_SHARE = 1 / 4
"""An acknowledgement may take this share of the shortest ttl in use."""

REPLICAS_WITHIN = 1.0
"""Longest wait for replicas, seconds."""

FSYNC_WITHIN = 2.0
"""Longest wait for the disk, seconds: ``appendfsync everysec`` takes up to one."""


@dataclass(frozen=True, slots=True)
class Ack:
    """
    What an acquisition waits for besides the server's answer.

    :ivar replicas: how many replicas must have it
    :ivar fsync: whether the server must have it on its disk
    """

    replicas: int = 0
    fsync: bool = False

    @property
    def waits(self) -> bool:
        """Whether there is anything to wait for."""
        return self.fsync or self.replicas > 0

    @property
    def longest(self) -> float:
        """Longest wait, seconds."""
        return FSYNC_WITHIN if self.fsync else REPLICAS_WITHIN

    def within_ms(self, shortest_ttl_ms: float) -> int:
        """Return how long to wait where the shortest lease has ``shortest_ttl_ms``."""
        # At least 1: 0 would wait without end.
        return max(1, int(min(self.longest * 1000, shortest_ttl_ms * WAIT_SHARE)))


def parse_ack(ack: object) -> Ack:
    """
    Read the option ``ack``.

    :raises ValueError: if it is none of the levels
    """
    if ack == "local":
        return Ack()
    if ack == "fsync":
        return Ack(fsync=True)
    found = _REPLICAS.fullmatch(ack) if isinstance(ack, str) else None
    if found is None:
        raise ValueError(
            f"ack must be 'local', 'replicas:N' with N from 1 to 999, or 'fsync', not {ack!r}"
        )
    return Ack(replicas=int(found[1]))
