"""The wait of a task for its turn."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, TypeVar

from aiodistlock.core.options import Kind, LockOptions
from aiodistlock.events.log import log_event
from aiodistlock.events.story import Story
from aiodistlock.leases.process_lease import Holder
from aiodistlock.leases.states import HELD
from aiodistlock.protocol.call import Call
from aiodistlock.protocol.cleanup import confirmed
from aiodistlock.waiting.client_state import ClientState
from aiodistlock.waiting.contender import Contender
from aiodistlock.waiting.waiters import MakeHolder, Waiter

logger = logging.getLogger("aiodistlock")

H = TypeVar("H", bound=Holder)


async def acquire(  # noqa: PLR0917  # runs for every lease, and keywords cost
    contender: Contender,
    options: LockOptions,
    make_holder: MakeHolder[H],
    owner: object,
    task: asyncio.Task[Any] | None,
    timeout: float | None,
) -> H | None:
    """
    Wait for the lock; ``None`` only if the caller does not wait.

    Cancelled here, the task leaves; if it was the last one, what it asked for is
    undone, which takes at most ``CLEANUP_WITHIN``.

    :raises AcquireTimeout: if ``timeout`` seconds have passed
    :raises StoreUnavailable: if Redis was unavailable for too long
    :raises LockError: if the client was closed meanwhile
    """
    client = contender.client
    # What make_holder built is what the future gets: Any, for mypy.
    future: asyncio.Future[Any] = asyncio.Future(loop=client.loop)
    story = None
    if client.listeners.all or logger.isEnabledFor(logging.DEBUG):
        story = begin_story(client, contender.keys.name, timeout, options.kind)
    contender.enter(
        waiter := Waiter(future, options, make_holder, task, owner, timeout != 0, story)
    )
    timer = None
    if timeout:
        timer = client.timers.call_later(timeout, contender.expire, waiter, timeout)
    try:
        holder: H | None = await future
    except asyncio.CancelledError:
        cleanup = leave(contender, waiter)
        if cleanup is not None:
            await confirmed(cleanup)
        raise
    finally:
        if timer is not None:
            timer.cancel()
    if holder is None:
        return None
    lease = waiter.lease
    # Mostly it is not even to be renewed yet, which is quickly asked.
    if lease.state is HELD and client.clock() < lease.due_at:
        return holder
    if lease.alive and lease.validity_at(client.clock()) > 0.0:
        return holder
    logger.warning(
        "the lease on %r was over before it could be used, as the event loop was busy: "
        "it is acquired again",
        contender.keys.name,
    )
    holder._give_back()
    client.check(contender.keys.name)  # what ended the lease may be that its client was closed
    if timeout:
        timeout = max(0.0, timeout - (client.clock() - waiter.entered_at))
    return await acquire(contender, options, make_holder, owner, task, timeout)


def use_again(  # noqa: PLR0917  # runs for every use, and keywords cost
    contender: Contender,
    options: LockOptions,
    make_holder: MakeHolder[H],
    owner: object,
    task: asyncio.Task[Any] | None,
    timeout: float | None,
    now: float,
) -> H | None:
    """Use the lease that lingers, without a wait; ``None`` if none does, or that may not be."""
    client, lingering = contender.client, contender.lingering
    lease = None if lingering is None else lingering.take(options.ttl, now)
    if lease is None:
        return None
    story = None
    if client.listeners.all or logger.isEnabledFor(logging.DEBUG):
        story = begin_story(client, contender.keys.name, timeout, options.kind)
    fence = contender.use_again(lease, options, story, now)
    holder = make_holder(client, lease, fence, task, owner)
    lease.hand_to(holder)
    return holder


def begin_story(client: ClientState[Any], name: str, timeout: float | None, kind: Kind) -> Story:
    """Begin the story of an acquisition, for those who listen."""
    # The log is asked each time: its level may be changed while the program runs.
    logs = (log_event,) if logger.isEnabledFor(logging.DEBUG) else ()
    return Story((*logs, *client.listeners.all), name, timeout, client.clock, kind)


def leave(contender: Contender, waiter: Waiter) -> Call[Any] | None:
    """Let a cancelled task go; return the clean-up that this takes, if it takes one."""
    future = waiter.future
    if future.cancelled():
        if waiter.story is not None:
            waiter.story.abandoned("cancelled")
        return contender.leave()
    # The turn came, or an error, in the very loop turn of the cancellation.
    if future.exception() is not None:
        return None
    holder = future.result()
    return None if holder is None else holder._give_back()
