"""What becomes of a lease that nobody refers to any more, and so nobody can release.

A lease refers to its holder weakly.  When the last other reference goes, the
lease is released and told of, as asyncio does with an unclosed transport.  That may be while
the garbage collector runs: in whatever thread, between any two lines, at the end of the
interpreter, or when the event loop is closed.  So all else is left to the event loop.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable
from typing import Any
from weakref import ref

from aiodistlock.leases.process_lease import Holder, ProcessLease
from aiodistlock.waiting.client_state import ClientState

logger = logging.getLogger("aiodistlock")


def dropped(
    client: ClientState[Any],
    lease: ProcessLease,
    release: Callable[[ProcessLease, ref[Holder]], object],
    holder: ref[Holder],
) -> None:
    """
    Tell of a lease whose holder is gone, and have it released.

    :param release: called in the client's event loop, with the lease and the holder
    :param holder: the holder that it had; meanwhile it may have another
    """
    if client.forked or client.closed or not lease.alive or sys.is_finalizing():
        return
    end = "it is released now"
    try:
        client.loop.call_soon_threadsafe(release, lease, holder)
    except RuntimeError:
        end = "its event loop is closed, so its key expires by itself"
    age = max(0.0, client.clock() - lease.span_ends_at + client.options.handoff_span)
    told = (
        f"nobody has the lease on {lease.keys.name!r} any more, {age:.1f} s after it "
        f"was acquired: {end}; keep it and call release(), or use 'async with'"
    )
    logger.warning(told)
    warnings.warn(told, ResourceWarning, stacklevel=2)
