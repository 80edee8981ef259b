"""How long a cancelled task waits for what undoes its request."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import anyio

from aiodistlock.protocol.call import Call, R

CLEANUP_WITHIN = 0.25
"""Longest that a cancelled task waits for its clean-up to be confirmed, seconds."""


async def confirmed(call: Call[R]) -> R | None:
    """
    Wait for a clean-up to be answered, shielded and bounded; ``None`` if it was not.

    The request goes out whether or not anybody waits for the answer.
    """
    until = anyio.current_time() + CLEANUP_WITHIN
    with anyio.CancelScope(deadline=until, shield=True):
        return await call
    return None


async def all_confirmed(calls: Iterable[Call[Any] | None]) -> None:
    """Wait for several clean-ups to be answered, all within the one bound; ``None`` is none."""
    until = anyio.current_time() + CLEANUP_WITHIN
    with anyio.CancelScope(deadline=until, shield=True):
        for call in calls:
            if call is not None:
                await call
