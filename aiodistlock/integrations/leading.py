"""Has a web application lead an election while it runs; the same in each framework."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiodistlock import Election, Term
from aiodistlock.core.escaping import quoted

logger = logging.getLogger("aiodistlock")


@asynccontextmanager
async def leading(
    election: Election, main: Callable[[Term], Awaitable[object]]
) -> AsyncIterator[None]:
    """
    Run ``main(term)`` wherever one leads, for as long as the block lasts, beside it.

    For the lifespan of an application, or its cleanup context, in which its ``LockClient`` is
    open.  It is :meth:`Election.run` in a task: again after each loss.  At the end of the block
    ``main`` is cancelled, and when it has ended the next candidate leads.  An error of ``main``
    ends it, not the application: it is logged.

    :param election: ``locks.election("scheduler", value=...)``
    :param main: a coroutine function that takes the :class:`Term`
    """
    running = asyncio.create_task(_run(election, main), name="aiodistlock leading")
    try:
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def _run(election: Election, main: Callable[[Term], Awaitable[object]]) -> None:
    try:
        await election.run(main)
    except Exception:
        logger.exception("what leads %s here failed, and is not run again", quoted(election.name))
