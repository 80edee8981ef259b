"""Permits of semaphores named by requests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from aiodistlock import AcquireTimeout, LockClient, SemaphoreLease
from aiodistlock.integrations.problems import NoPermit
from aiodistlock.integrations.request_lock import Naming, RequestLock, lock_named


class RequestPermits(RequestLock):
    """
    What a handler is decorated with: which permits each request has.

    :param name: a name template, or a function from the request to the name
    :param limit: how many permits there are
    :param permits: how many a request needs
    :param options: options of :class:`~aiodistlock.Semaphore`
    :raises ValueError: naming all that is wrong in the template and the options
    :raises TypeError: for an option that semaphores do not have
    """

    def __init__(self, name: Naming, limit: int, permits: int, options: dict[str, Any]) -> None:
        self._limit = limit
        self._permits = permits
        super().__init__((name,), options)
        self.given_as = "permit"

    def _check_options(self) -> None:
        check_permits(self._limit, self._permits, self.options)

    def _check_client(self, locks: LockClient) -> None:
        locks.semaphore("options", self._limit, **self.options)

    def held(
        self, locks: LockClient, names: Sequence[object]
    ) -> AbstractAsyncContextManager[tuple[SemaphoreLease, ...]]:
        """
        Hold the permits that a request is to have.

        :raises NoPermit: if they were not free in time
        :raises UnusableName: if a semaphore cannot be called so
        """
        return held_permits(locks, names, self._limit, self._permits, self.options)


@asynccontextmanager
async def held_permits(
    locks: LockClient,
    names: Sequence[object],
    limit: int,
    permits: int,
    options: dict[str, Any],
) -> AsyncIterator[tuple[SemaphoreLease, ...]]:
    """
    Hold permits of the one semaphore that a request names.

    :returns: their lease
    :raises NoPermit: if they were not free in time
    :raises UnusableName: if it cannot be called so
    """
    (name,) = names
    # Named as a lock: what cannot be one's name is the client's mistake, and is told so.
    namespace = {key: options[key] for key in ("namespace",) if key in options}
    semaphore = locks.semaphore(lock_named(locks, name, namespace).name, limit, **options)
    try:
        lease = await semaphore.acquire(permits=permits)
    except AcquireTimeout as error:
        raise NoPermit(error) from error
    async with lease:
        yield (lease,)


def check_permits(limit: int, permits: int, options: dict[str, Any]) -> None:
    """
    Check a semaphore's options where they are written, before there is a client.

    :raises TypeError: for an option that semaphores do not have
    :raises ValueError: naming every option that is wrong
    """
    LockClient.in_memory().semaphore("options", limit, **options).hold(permits=permits)
