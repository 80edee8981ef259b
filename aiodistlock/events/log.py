"""What the log says of an acquisition, at level DEBUG.

A loss, and a Redis that is unavailable, are logged where they are found, at level WARNING
and whoever listens: not again here.
"""

from __future__ import annotations

import logging

from aiodistlock.core.escaping import described, quoted
from aiodistlock.events.events import (
    Abandoned,
    Acquired,
    HandedOver,
    Lingered,
    LockEvent,
    Released,
    Renewed,
    Waiting,
)

logger = logging.getLogger("aiodistlock")


def log_event(event: LockEvent) -> None:
    """Log what happened, in one line."""
    name, number = quoted(event.name), event.acquisition
    match event:
        case Waiting(timeout=timeout, kind=kind):
            logger.debug("#%d waiting for %s (%s), timeout %s", number, name, kind, timeout)
        case HandedOver(local=local):
            origin = "a task here" if local else "another process"
            logger.debug("#%d %s handed over from %s", number, name, origin)
        case Acquired(fencing_token=fence, waited=waited):
            logger.debug(
                "#%d acquired %s after %.6f s (fencing token %d)", number, name, waited, fence
            )
        case Renewed(lag=lag, waiters=waiters):
            logger.debug("#%d renewed %s, %.6f s late, waiters %d", number, name, lag, waiters)
        case Released(held=held, cause=None):
            logger.debug("#%d released %s after %.6f s", number, name, held)
        case Released(held=held, cause=Exception() as cause):
            why = described(cause)
            logger.debug("#%d released %s after %.6f s, not confirmed: %s", number, name, held, why)
        case Lingered(outcome=outcome):
            logger.debug("#%d %s lingered, or was to: %s", number, name, outcome)
        case Abandoned(reason=reason, waited=waited):
            logger.debug("#%d abandoned %s after %.6f s: %s", number, name, waited, reason)
