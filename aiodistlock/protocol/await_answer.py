"""Questions to the store whose answer is waited for, within a bound."""

from __future__ import annotations

import asyncio

from aiodistlock.errors import StoreUnavailable
from aiodistlock.protocol.answers import Failed
from aiodistlock.protocol.call import Call, R
from aiodistlock.protocol.store import Store

ASKED_WITHIN = 3.0
"""Seconds for which who only asks waits for an answer, unless told otherwise."""


async def answer(
    store: Store, call: Call[R | Failed], name: str, within: float | None = ASKED_WITHIN
) -> R:
    """
    Return what the store answers, which is no failure.

    Cancelled here, or too late, the question is not asked again.

    :param within: seconds, ``None``: the client's ``unavailable_after``
    :raises StoreUnavailable: if it failed, or there is no answer in time
    """
    try:
        async with asyncio.timeout(within):
            reply = await call
    except TimeoutError:
        causes = store.connection.excuses(call) or [TimeoutError(f"no answer for {within:g} s")]
        raise StoreUnavailable(name, causes) from causes[0]
    finally:
        call.obsolete = True
    if isinstance(reply, Failed):
        raise StoreUnavailable(name, reply.causes)
    return reply
