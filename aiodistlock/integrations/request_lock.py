"""Locks named by requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aiodistlock import AsyncLock, LockClient
from aiodistlock.core.validation import check_all
from aiodistlock.integrations.request_name import RequestName, UnusableName


class RequestLock:
    """
    What a handler is decorated with: how each request is locked.

    :param name: a name template, or a function from the request to the name
    :param options: options of :class:`~aiodistlock.AsyncLock`
    :raises ValueError: naming all that is wrong in the template and the options
    :raises TypeError: for an option that locks do not have
    """

    def __init__(self, name: str | Callable[[Any], str | None], options: dict[str, Any]) -> None:
        check_all(
            lambda: check_options(options), lambda: isinstance(name, str) and RequestName(name)
        )
        self.template = RequestName(name) if isinstance(name, str) else None
        self._function = None if isinstance(name, str) else name
        self._options = options

    def build(
        self,
        locks: LockClient,
        request: Any,
        parameters: Mapping[str, Any],
        headers: Mapping[str, str],
        query: Mapping[str, str],
    ) -> AsyncLock | None:
        """
        Build the lock for a request; ``None`` if the function says that it needs none.

        :raises UnusableName: if the request gives no name that a lock can have
        """
        if self.template is not None:
            return lock_named(locks, self.template.fill(parameters, headers, query), self._options)
        assert self._function is not None
        name = self._function(request)
        return None if name is None else lock_named(locks, name, self._options)

    def check(self, locks: LockClient, known: list[str], route: str) -> None:
        """
        Check that the options fit the client, and that a route has what the name needs.

        :raises ValueError: if not
        """
        locks.lock("options", **self._options)
        if self.template is not None:
            self.template.check(known, route)


def mark(handler: Any, lock: RequestLock) -> None:
    """Let the check at start-up see how a handler is locked."""
    handler.__dict__[_MARK] = lock


def mark_of(handler: Any) -> RequestLock | None:
    """Return how a handler is locked, if it is."""
    lock: RequestLock | None = getattr(handler, _MARK, None)
    return lock


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
