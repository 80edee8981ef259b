"""Tries several names in one turn of the loop, so that one write asks for all of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, TypeVar, cast

from aiodistlock.core.options import LockOptions
from aiodistlock.leases.process_lease import Holder
from aiodistlock.protocol.cleanup import all_confirmed
from aiodistlock.waiting.acquire import begin_story, leave, use_again
from aiodistlock.waiting.contender import Contender
from aiodistlock.waiting.waiters import MakeHolder, Waiter

logger = logging.getLogger("aiodistlock")

H = TypeVar("H", bound=Holder)


async def try_together(  # noqa: PLR0917  # as acquire, for several
    contenders: Sequence[Contender],
    options: LockOptions,
    make_holder: MakeHolder[H],
    owner: object,
    task: asyncio.Task[object] | None,
    timeout: float | None,
) -> list[H | None]:
    """
    Take those of several names that are free, and wait for no holder.

    Cancelled here, or with an error, nothing is held; what undoes it is sent, and a
    cancelled caller waits for at most ``CLEANUP_WITHIN`` for that.

    :param contenders: of one client, in the order in which they shall be asked for
    :param timeout: seconds to wait for the answers, ``None`` or 0: as Redis takes
    :returns: a holder for each name, ``None`` where it is not free
    :raises AcquireTimeout: if ``timeout`` seconds have passed without an answer
    :raises StoreUnavailable: if Redis was unavailable for too long
    """
    client = contenders[0].client
    holders: list[H | None] = []
    asked: dict[int, tuple[Contender, Waiter]] = {}
    for place, contender in enumerate(contenders):
        holder = use_again(contender, options, make_holder, owner, task, 0, client.clock())
        holders.append(holder)
        if holder is None:
            future: asyncio.Future[Any] = asyncio.Future(loop=client.loop)
            heard = client.listeners.all or logger.isEnabledFor(logging.DEBUG)
            story = begin_story(client, contender.keys.name, 0, options.kind) if heard else None
            waiter = Waiter(future, options, make_holder, task, owner, waits=False, story=story)
            contender.enter(waiter)
            asked[place] = contender, waiter

    def expire() -> None:
        for contender, waiter in asked.values():
            contender.expire(waiter, timeout or 0.0)

    timer = client.timers.call_later(timeout, expire) if timeout and asked else None
    try:
        for place, (_, waiter) in asked.items():
            holders[place] = cast("H | None", await waiter.future)
    except BaseException as error:
        at_hand = [each for place, each in enumerate(holders) if each and place not in asked]
        for _, waiter in asked.values():
            waiter.future.cancel()
        cleanups = [leave(contender, waiter) for contender, waiter in asked.values()]
        cleanups += [each._give_back() for each in at_hand]
        if isinstance(error, asyncio.CancelledError):
            await all_confirmed(cleanups)
        raise
    finally:
        if timer is not None:
            timer.cancel()
    return holders
