"""Locks named by requests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from aiodistlock import AsyncLock, Lease, LockClient
from aiodistlock.core.validation import check_all, refuse
from aiodistlock.integrations.request_name import RequestName, UnusableName

Naming = str | Callable[..., Any]
"""A name template, or a function that returns the name."""


def templates_of(names: Sequence[Naming]) -> tuple[RequestName, ...]:
    """
    Read the name templates; there are none if the name is a function's.

    :raises ValueError: naming all that is wrong in them; if one of several is none
    """
    if len(names) == 1 and not isinstance(names[0], str):
        return ()
    templates: list[RequestName] = []

    def read(name: Naming) -> None:
        if not isinstance(name, str):
            raise ValueError("of several names each must be a template")  # noqa: TRY004
        templates.append(RequestName(name))

    check_all(*(lambda name=name: read(name) for name in names))
    refuse([] if names else ["pass a name template, or several"])
    return tuple(templates)


class RequestLock:
    """
    What a handler is decorated with: how each request is locked.

    :param names: a name template or several, or a function from the request to the name
    :param options: options of :class:`~aiodistlock.AsyncLock`
    :ivar templates: of its names; empty if the name is a function's
    :raises ValueError: naming all that is wrong in the templates and the options
    :raises TypeError: for an option that locks do not have
    """

    def __init__(self, names: Sequence[Naming], options: dict[str, Any]) -> None:
        self.options = options
        check_all(self._check_options, lambda: templates_of(names))
        self.templates = templates_of(names)
        self.given_as = "lease" if len(names) == 1 else "leases"
        """What the request calls its lease, or its leases."""
        self._function = None if isinstance(names[0], str) else names[0]

    def _check_options(self) -> None:
        check_options(self.options)

    @property
    def parameters(self) -> set[str]:
        """Names of the parameters that its names need."""
        return {each for template in self.templates for each in template.parameters}

    def names(
        self,
        request: Any,
        parameters: Mapping[str, Any],
        headers: Mapping[str, str],
        query: Mapping[str, str],
    ) -> list[Any]:
        """
        Return what a request is to lock; empty if the function says that it needs no lock.

        :raises UnusableName: if the request has not what a name needs
        """
        if self._function is None:
            return [each.fill(parameters, headers, query) for each in self.templates]
        name = self._function(request)
        return [] if name is None else [name]

    def check(self, locks: LockClient, known: list[str], route: str) -> None:
        """
        Check that the options fit the client, and that a route has what the names need.

        :raises ValueError: if not
        """
        self._check_client(locks)
        for template in self.templates:
            template.check(known, route)

    def _check_client(self, locks: LockClient) -> None:
        locks.lock("options", **self.options)

    def held(
        self, locks: LockClient, names: Sequence[object]
    ) -> AbstractAsyncContextManager[tuple[Lease, ...]]:
        """
        Hold what a request is to have, by the names that :meth:`names` returned.

        :returns: a lease for each name, in their order
        :raises UnusableName: if something cannot be called so
        """
        return held(locks, names, self.options)

    def given(self, leases: tuple[Lease, ...]) -> Any:
        """Return of what it holds what the request finds there: its one lease, or all."""
        return leases if self.given_as == "leases" else leases[0]


@asynccontextmanager
async def held(
    locks: LockClient, names: Sequence[object], options: dict[str, Any]
) -> AsyncIterator[tuple[Lease, ...]]:
    """
    Hold the locks that a request names; what it names twice is locked once.

    :returns: a lease for each name, in their order
    :raises UnusableName: if one cannot be called so
    """
    asked = [lock_named(locks, name, options) for name in names]
    different = {lock.name: lock for lock in asked}
    async with locks.together(*different.values()) as leases:
        by_name = dict(zip(different, leases, strict=True))
        yield tuple(by_name[lock.name] for lock in asked)


def mark(handler: Any, lock: RequestLock) -> None:
    """Let the check at start-up see how a handler is locked, and what it wraps."""
    # What it wraps has left its marks in its own dict: by functools.wraps().
    handler.__dict__[_MARK] = (lock, *marks_of(handler))


def marks_of(handler: Any) -> tuple[RequestLock, ...]:
    """Return how a handler is locked, the outermost first; empty if it is not."""
    locks: tuple[RequestLock, ...] = getattr(handler, _MARK, ())
    return locks


_MARK = "__aiodistlock__"


def lock_named(locks: LockClient, name: object, options: dict[str, Any]) -> AsyncLock:
    """
    Build the lock for a request.

    :raises UnusableName: if it cannot be called so
    """
    if not isinstance(name, str):
        raise TypeError(f"the lock's name must be a str, not {name!r}")
    try:
        return locks.lock(name, **options)
    except ValueError as error:
        # The options were checked before: what is wrong is what the client sent. It is not
        # told why, as that tells the name.
        raise UnusableName("The request names nothing that can be locked.") from error


def check_options(options: dict[str, Any]) -> None:
    """
    Check a lock's options where they are written, before there is a client.

    :raises TypeError: for an option that locks do not have
    :raises ValueError: naming every option that is wrong
    """
    # Opens no connection, as nothing asks it to.
    LockClient.from_url("redis://localhost").lock("options", **options)
