"""Locks for FastAPI applications: a dependency that yields a lease."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from itertools import chain
from typing import Annotated, Any, Literal, Unpack

from fastapi import Depends, FastAPI, Header, Query
from starlette.requests import HTTPConnection

from aiodistlock import Lease, LockClient
from aiodistlock.client import UrlKeywords
from aiodistlock.core.durations import Duration
from aiodistlock.core.keywords import UntimedLockKeywords, UntimedSemaphoreKeywords
from aiodistlock.core.validation import check_all
from aiodistlock.integrations import starlette
from aiodistlock.integrations.asgi import SET_UP_APP, covered, watch_client
from aiodistlock.integrations.fastapi_routes import LockedRoute, Parameters, locked_routes
from aiodistlock.integrations.leading import leading
from aiodistlock.integrations.problems import documented
from aiodistlock.integrations.request_lock import check_options, held, templates_of
from aiodistlock.integrations.request_permits import check_permits, held_permits
from aiodistlock.integrations.starlette import lock_lifespan, mounted

__all__ = [
    "LockDependency",
    "PermitDependency",
    "get_locks",
    "leading",
    "lock_lifespan",
    "setup_locks",
]


def setup_locks(
    app: FastAPI, redis: str | Sequence[str] | LockClient, **options: Unpack[UrlKeywords]
) -> None:
    """
    Give an application its locks; call it once, right after the app was made.

    A :class:`LockClient` opens and closes with the app, around the lifespan that it has,
    as ``app.state.locks``.  The name templates of all :func:`LockDependency` are checked
    at start-up.  An ``AcquireTimeout`` is answered with 423 and ``Retry-After``,
    ``StoreUnavailable`` and ``LeaseLost`` with 503, all with an
    ``application/problem+json`` body, wherever in the app they are raised; add exception
    handlers of your own for others.  OpenAPI lists both for the routes with a lock.
    A request that holds or awaits a lock ends when its client goes.  Mounted applications
    use the locks of the one above.

    :param redis: one URL, or several of independent nodes, as for
        :meth:`LockClient.from_url`; or a client, which stays open when the app ends
    :param options: options for :meth:`LockClient.from_url`, such as ``unavailable_after``
    :raises RuntimeError: if the application has begun to serve
    """
    starlette.set_up(app, redis, dict(options), _check)
    _extend_openapi(app)


async def get_locks(connection: HTTPConnection) -> LockClient:
    """
    Return the app's ``LockClient``: ``Annotated[LockClient, Depends(get_locks)]``.

    Each :func:`LockDependency` depends on it, so ``app.dependency_overrides[get_locks]``
    gives tests other locks.

    :raises RuntimeError: if there is none: not set up, or its lifespan does not run
    """
    return starlette.get_locks(connection)


def LockDependency(  # noqa: N802 - written where FastAPI's own Depends and Path are
    *names: str | Callable[..., Any],
    timeout: Duration | None = 5.0,
    scope: Literal["function", "request"] = "request",
    **options: Unpack[UntimedLockKeywords],
) -> Any:
    """
    Hold a lock while a request is served; what is injected is its :class:`Lease`.

    Of several templates it holds all the locks, or none (:meth:`LockClient.together`), and a tuple
    of their leases is injected, in the order of the templates; what a request names twice is one
    lock.

    ::

        Wallet = Annotated[Lease, LockDependency("wallet:{wallet_id}", ttl=5.0)]

        @app.post("/wallets/{wallet_id}/reconcile")
        async def reconcile(wallet_id: int, lease: Wallet) -> None: ...

    It may stand in ``dependencies=[...]`` of a route, a router or the app, too.  When the
    lease is lost an ``async def`` endpoint is cancelled, and the answer is 503; if the
    response has begun the connection is aborted.  A ``def`` endpoint runs in a thread,
    which cannot be stopped: it should ask ``lease.check()`` before it writes.

    :param names: templates whose fields are path or query parameters of the route, with
        the values that their types convert to, or ``header[x-tenant]`` or
        ``query[page]``; or one function that returns the name, itself a dependency
    :param timeout: how long to wait before 423, ``None`` without end
    :param scope: ``"request"``: until the response is sent, with all that it streams and
        its background tasks, as all dependencies with ``yield``; ``"function"``: until
        the endpoint returns, before the response begins, so that a loss which shows only
        at the release is still answered with 503.  Either way it covers the exit code
        of those dependencies of its scope that stand behind it
    :param options: options of :class:`~aiodistlock.AsyncLock`
    :raises ValueError: naming all that is wrong in the templates and the options
    """
    given = {**options, "timeout": timeout}
    check_all(lambda: check_options(given), lambda: _Hold(names, given))
    return Depends(_Hold(names, given), scope=scope)


def PermitDependency(  # noqa: N802 - as LockDependency
    name: str | Callable[..., Any],
    limit: int,
    *,
    permits: int = 1,
    timeout: Duration | None = 5.0,
    scope: Literal["function", "request"] = "request",
    **options: Unpack[UntimedSemaphoreKeywords],
) -> Any:
    """
    Hold a permit while a request is served; what is injected is its :class:`SemaphoreLease`.

    So many requests at a time, over all processes; for a request that has none within ``timeout``
    it is 429 with ``Retry-After``.  Everything else is as of :func:`LockDependency`.

    ::

        Gpu = Annotated[SemaphoreLease, PermitDependency("gpu", 4, timeout=1.0)]

        @app.post("/images")
        async def draw(lease: Gpu) -> None: ...  # on GPU lease.slot

    :param name: a template, as of :func:`LockDependency`, or a function that returns the name
    :param limit: how many permits there are
    :param permits: how many the request needs, all of them or none
    :param timeout: how long to wait before 429, ``None`` without end
    :param options: options of :class:`~aiodistlock.Semaphore`, but for ``timeout``
    :raises ValueError: naming all that is wrong in the template and the options
    """
    given: dict[str, Any] = {**options, "timeout": timeout}
    check_all(lambda: check_permits(limit, permits, given), lambda: templates_of((name,)))
    return Depends(_HoldPermits(name, limit, permits, given), scope=scope)


class _Hold:
    """The dependency: holds the locks of a request around the rest of it."""

    def __init__(self, names: Sequence[str | Callable[..., Any]], options: dict[str, Any]) -> None:
        self.options = options
        templates = templates_of(names)
        self.parameters = [Parameters(each) for each in templates]
        """For each template; there is none if the name is a function's."""
        # What FastAPI is to find out for us, so that it validates and documents it.
        wanted = [
            _parameter("connection", HTTPConnection),
            _parameter("locks", Annotated[LockClient, Depends(get_locks)]),
        ]
        self.headers = _each_once(template.headers for template in templates)
        self.queries = _each_once(template.queries for template in templates)
        wanted += _declared("header", self.headers, Header)
        wanted += _declared("query", self.queries, Query)
        if not templates:
            function: Any = names[0]
            wanted.append(_parameter("name", Annotated[Any, Depends(function)]))
        self.__signature__ = inspect.Signature(wanted)

    async def __call__(
        self, connection: HTTPConnection, locks: LockClient, **values: Any
    ) -> AsyncIterator[Lease | tuple[Lease, ...]]:
        """Hold the locks until FastAPI leaves the dependency."""
        if not all(each.know(connection) for each in self.parameters):
            self._look_at_routes(connection)
        names = [each.fill(connection) for each in self.parameters] or [values["name"]]
        watch_client(connection.scope)
        # FastAPI enters and leaves async generators in the task of the request, where
        # its endpoint runs as well: the one that is cancelled when a lease is lost.
        async with self._held(locks, names) as leases:
            with covered(connection.scope, leases):
                yield leases[0] if len(leases) == 1 else leases

    def _held(
        self, locks: LockClient, names: Sequence[object]
    ) -> AbstractAsyncContextManager[tuple[Lease, ...]]:
        """Hold what is named so."""
        return held(locks, names, self.options)

    def check(self, locks: LockClient) -> None:
        """
        Check that the options fit the client.

        :raises ValueError: naming the one that does not
        """
        locks.lock("options", **self.options)

    def _look_at_routes(self, connection: HTTPConnection) -> None:
        """
        Learn what the routes declare, where the app's lifespan does not run.

        :raises ValueError: naming the field that is no parameter of its route
        """
        outermost = connection.scope.get(SET_UP_APP, connection.app)
        for path, each in (("", outermost), *mounted(outermost.routes)):
            for route, hold in locked_routes(each.routes, _Hold, path):
                if hold is self:
                    self.bind(route)

    def bind(self, route: LockedRoute) -> None:
        """
        Learn what a route declares.

        :raises ValueError: naming the field that is no parameter of it
        """
        for each in self.parameters:
            each.bind(route)


class _HoldPermits(_Hold):
    """The dependency: holds permits of a semaphore around the rest of a request."""

    def __init__(
        self, name: str | Callable[..., Any], limit: int, permits: int, options: dict[str, Any]
    ) -> None:
        super().__init__((name,), options)
        self._limit = limit
        self._permits = permits

    def _held(
        self, locks: LockClient, names: Sequence[object]
    ) -> AbstractAsyncContextManager[tuple[Lease, ...]]:
        return held_permits(locks, names, self._limit, self._permits, self.options)

    def check(self, locks: LockClient) -> None:
        """
        Check that the options fit the client.

        :raises ValueError: naming the one that does not; on a quorum
        """
        locks.semaphore("options", self._limit, **self.options)


def _each_once(names: Iterable[Iterable[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(chain.from_iterable(names)))


def _declared(kind: str, names: tuple[str, ...], declare: Any) -> list[inspect.Parameter]:
    return [
        # Not required here: what is missing is answered as all that the name lacks.
        _parameter(f"{kind}_{index}", Annotated[str | None, declare(alias=name)], None)
        for index, name in enumerate(names)
    ]


def _parameter(
    name: str, annotation: Any, default: Any = inspect.Parameter.empty
) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=default, annotation=annotation)


def _check(app: FastAPI) -> None:
    """
    Check the locks of all routes, those of mounted applications included.

    :raises ValueError: naming the field that is no parameter of its route, or the option
        that does not fit the client
    """
    starlette.check_routes(app)
    for path, each in (("", app), *mounted(app.routes)):
        if not isinstance(each, FastAPI):
            continue
        for route, hold in locked_routes(each.routes, _Hold, path):
            hold.check(app.state.locks)
            hold.bind(route)
        _extend_openapi(each)


class _OpenAPI:
    """An app's ``openapi``, with how locked routes answer when they do not get the lock."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._undocumented = app.openapi

    def __call__(self) -> dict[str, Any]:
        schema = self._undocumented()
        for route, hold in locked_routes(self._app.routes, _Hold):
            for method in route.methods:
                operation = schema.get("paths", {}).get(route.path, {}).get(method.lower(), {})
                _document(operation, hold)
        return schema


def _document(operation: dict[str, Any], hold: _Hold) -> None:
    """Add what a lock answers, and that its name needs what it needs."""
    responses = operation.setdefault("responses", {})
    told = documented(permits=isinstance(hold, _HoldPermits))
    for status, response in told.items():
        responses.setdefault(status, response)
    # FastAPI's own 422 is of the parameters that it validates itself.
    responses["422"].setdefault("content", {}).update(told["422"]["content"])
    needed = {"header": hold.headers, "query": hold.queries}
    for each in operation.get("parameters", ()):
        if each["name"] in needed.get(each["in"], ()):
            each["required"] = True
            if each["schema"].pop("anyOf", None):
                each["schema"]["type"] = "string"


def _extend_openapi(app: FastAPI) -> None:
    if not isinstance(app.openapi, _OpenAPI):
        # FastAPI's own way to extend the schema, says its documentation.
        app.openapi = _OpenAPI(app)  # type: ignore[method-assign]
