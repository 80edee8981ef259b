"""Taking a lease away from its holder, to test what the holder does then."""

from __future__ import annotations

from typing import cast

from aiodistlock.lease import Lease
from aiodistlock.lock import AsyncLock


def lose_lease(
    held: AsyncLock | Lease, reason: str = "its key is gone (expired or deleted)"
) -> None:
    """
    End a lease as if its store had said that it is not ours any more.

    Just as in production: the body is cancelled and its block raises
    :class:`~aiodistlock.LeaseLost`; with ``on_lost="signal"``, or after ``acquire()``, the
    lease only tells.  The key is given up, so the next waiter may get the lock while the
    body still cleans up.

    :param held: the lease; or a lock of that name, on the same client, that is held by a
        task of this event loop
    :param reason: becomes :attr:`LeaseLost.reason <aiodistlock.LeaseLost>`
    :raises ValueError: if nobody here holds the lock
    :raises LeaseLost: if the lease was lost before
    :raises NotHeld: if the lease was released before
    """
    lease = held if isinstance(held, Lease) else _lease_on(held)
    lease.check()
    process_lease = lease._process_lease
    lease._client.watchdog.refused(process_lease, reason)
    # Behind the loss: nobody gets in before the body has been cancelled.
    process_lease.possessor.release_at_redis(process_lease)


def _lease_on(lock: AsyncLock) -> Lease:
    held = lock._engine().holders.get(lock._keys.key)
    holder = None if held is None or held.holder is None else held.holder()
    if holder is None:
        raise ValueError(
            f"nobody holds {lock.name!r} on this client: wait until the code under test does"
        )
    return cast(Lease, holder)
