"""What stands in Redis for a lease of permits: its token, its fencing token, and its slots."""

from __future__ import annotations

import re
from collections.abc import Iterable

MOST_PERMITS = 1000
"""Highest limit of a semaphore: each script that gives permits reads who holds them."""

_LEASE = re.compile(rb"(\S+) (\d{1,16}) (\d{1,4}(?:,\d{1,4})*)")


def lease_of_permits(token: bytes, fence: int, slots: Iterable[int]) -> bytes:
    """Return what stands for a lease."""
    return b"%b %d %b" % (token, fence, b",".join(b"%d" % slot for slot in slots))


def read_lease(text: bytes) -> tuple[bytes, int, tuple[int, ...]] | None:
    """Read token, fencing token and slots; ``None`` if it is no lease of permits."""
    found = _LEASE.fullmatch(text)
    if found is None:
        return None
    token, fence, slots = found.groups()
    return token, int(fence), tuple(int(slot) for slot in slots.split(b","))
