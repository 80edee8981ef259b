"""Locks for Starlette applications; FastAPI's are built on it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar, Unpack

from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Host, Mount, Route, WebSocketRoute
from starlette.status import WS_1013_TRY_AGAIN_LATER
from starlette.websockets import WebSocket, WebSocketState

from aiodistlock import LockClient
from aiodistlock.client import UrlKeywords
from aiodistlock.core.durations import Duration
from aiodistlock.core.keywords import UntimedLockKeywords, UntimedSemaphoreKeywords
from aiodistlock.integrations.asgi import SET_UP_APP, LockedRequestMiddleware, watch_client
from aiodistlock.integrations.leading import leading
from aiodistlock.integrations.problems import LOCK_PROBLEMS, MEDIA_TYPE, LockProblem, problem_of
from aiodistlock.integrations.request_lock import RequestLock, mark, marks_of
from aiodistlock.integrations.request_permits import RequestPermits

__all__ = [
    "get_locks",
    "leading",
    "lock_lifespan",
    "locked_endpoint",
    "permit_endpoint",
    "setup_locks",
]

# Any: frameworks type lifespans with state apart from those without.
Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]
Endpoint = TypeVar("Endpoint", bound=Callable[..., Awaitable[Response | None]])
LockName = str | Callable[[Request], str | None]


def setup_locks(
    app: Starlette, redis: str | Sequence[str] | LockClient, **options: Unpack[UrlKeywords]
) -> None:
    """
    Give an application its locks; call it once, right after the app was made.

    A :class:`LockClient` opens and closes with the app, around the lifespan that it has,
    as ``app.state.locks``.  Name templates of the routes are checked at start-up.  An
    ``AcquireTimeout`` is answered with 423 and ``Retry-After``, ``StoreUnavailable`` and
    ``LeaseLost`` with 503, all with an ``application/problem+json`` body, wherever in
    the app they are raised; add exception handlers of your own for others.  A request that
    holds or awaits a lock ends when its client goes.  Mounted applications use the locks
    of the one above.

    :param redis: one URL, or several of independent nodes, as for
        :meth:`LockClient.from_url`; or a client, which stays open when the app ends
    :param options: options for :meth:`LockClient.from_url`
    :raises RuntimeError: if the application has begun to serve
    """
    set_up(app, redis, dict(options), check_routes)


def set_up(
    app: Starlette,
    redis: str | Sequence[str] | LockClient,
    options: dict[str, Any],
    check: Callable[[Any], None],
) -> None:
    """Set up as :func:`setup_locks` does, with a framework's own check of its routes."""
    app.add_middleware(LockedRequestMiddleware)
    for error in LOCK_PROBLEMS:
        app.add_exception_handler(error, _answer)

    def start(app: Starlette) -> None:
        # Each application answers the errors of its own routes.
        for _, below in mounted(app.routes):
            for error in LOCK_PROBLEMS:
                below.exception_handlers.setdefault(error, _answer)
        check(app)

    inner = app.router.lifespan_context
    app.router.lifespan_context = lock_lifespan(redis, inner, check=start, **options)


def mounted(routes: Sequence[BaseRoute], path: str = "") -> Iterator[tuple[str, Starlette]]:
    """Yield the applications that are mounted below, at any depth, with their paths."""
    for route in routes:
        if isinstance(route, Mount | Host):
            below = path + getattr(route, "path", "")
            if isinstance(route.app, Starlette):
                yield below, route.app
            yield from mounted(route.routes, below)


def lock_lifespan(
    redis: str | Sequence[str] | LockClient,
    lifespan: Lifespan | None = None,
    *,
    check: Callable[[Any], None] | None = None,
    **options: Unpack[UrlKeywords],
) -> Lifespan:
    """
    Build a lifespan that opens a ``LockClient`` as ``app.state.locks``, and closes it.

    :func:`setup_locks` uses it; by itself it is for apps that answer errors themselves.

    :param redis: as for :func:`setup_locks`
    :param lifespan: the app's own, which runs inside
    :param check: called with the app, before ``lifespan``
    """
    if isinstance(redis, LockClient) and options:
        raise TypeError("options are for a URL: a LockClient has them already")

    @asynccontextmanager
    async def opened(app: Any) -> AsyncIterator[Any]:
        if hasattr(app.state, "locks"):
            raise RuntimeError(
                "the app has locks already: call setup_locks(), or lock_lifespan(), only once"
            )
        locks = redis if isinstance(redis, LockClient) else LockClient.from_url(redis, **options)
        app.state.locks = locks
        try:
            if check is not None:
                check(app)
            if lifespan is None:
                yield None
            else:
                async with lifespan(app) as state:
                    yield state
        finally:
            del app.state.locks
            if locks is not redis:
                await locks.aclose()

    return opened


def get_locks(connection: HTTPConnection) -> LockClient:
    """
    Return the ``LockClient`` of the application that serves this request.

    :raises RuntimeError: if there is none: not set up, or its lifespan does not run
    """
    apps = (connection.app, connection.scope.get(SET_UP_APP, connection.app))
    locks = next((app.state.locks for app in apps if hasattr(app.state, "locks")), None)
    if locks is None:
        raise RuntimeError(
            "the app has no LockClient: call setup_locks(app, ...) after it was made, and run "
            "its lifespan (in tests: 'with TestClient(app)')"
        )
    client: LockClient = locks
    return client


def locked_endpoint(
    *names: LockName,
    timeout: Duration | None = 5.0,
    **options: Unpack[UntimedLockKeywords],
) -> Callable[[Endpoint], Endpoint]:
    """
    Run an endpoint, of a WebSocket, too, under a lock; its lease is ``request.state.lease``.

    With several templates it is under all those locks, or none (:meth:`LockClient.together`), and
    the leases are ``request.state.leases``, in the order of the templates; what a request names
    twice is one lock.

    The lock covers the endpoint until it returns its response: not what a
    ``StreamingResponse`` sends later, and not background tasks.

    :param names: templates with path parameters, ``{header[x-tenant]}`` and
        ``{query[page]}`` as fields, or one function from the request to the name, or to
        ``None`` if it needs no lock
    :param timeout: how long to wait before 423, ``None`` without end
    :param options: options of :class:`~aiodistlock.AsyncLock`
    :raises ValueError: naming all that is wrong in the templates and the options
    :raises TypeError: if the endpoint is no coroutine function
    """
    return _decorator(RequestLock(names, {**options, "timeout": timeout}))


def permit_endpoint(
    name: LockName,
    limit: int,
    *,
    permits: int = 1,
    timeout: Duration | None = 5.0,
    **options: Unpack[UntimedSemaphoreKeywords],
) -> Callable[[Endpoint], Endpoint]:
    """
    Run an endpoint with a permit of a semaphore, whose lease is ``request.state.permit``.

    So many requests at a time, over all processes; for a request that has none within ``timeout``
    it is 429 with ``Retry-After``.  Everything else is as of :func:`locked_endpoint`.

    ::

        @permit_endpoint("gpu", 4, timeout=1.0)
        async def draw(request: Request) -> Response: ...  # on GPU request.state.permit.slot

    :param name: a template, or a function from the request to the name, or to ``None`` if it needs
        no permit
    :param limit: how many permits there are
    :param permits: how many the request needs, all of them or none
    :param timeout: how long to wait before 429, ``None`` without end
    :param options: options of :class:`~aiodistlock.Semaphore`
    :raises ValueError: naming all that is wrong in the template and the options
    :raises TypeError: if the endpoint is no coroutine function
    """
    return _decorator(RequestPermits(name, limit, permits, {**options, "timeout": timeout}))


def _decorator(request_lock: RequestLock) -> Callable[[Endpoint], Endpoint]:
    def decorate(endpoint: Endpoint) -> Endpoint:
        if not inspect.iscoroutinefunction(endpoint):
            raise TypeError(
                f"an endpoint with a lease is an 'async def', not {endpoint!r}: a thread "
                "cannot be stopped when its lease is lost"
            )

        @functools.wraps(endpoint)
        async def locked(*args: Any) -> Response | None:
            request: Request = args[-1]  # a method of an HTTPEndpoint has self before it
            locks = get_locks(request)
            asked = request_lock.names(
                request, request.path_params, request.headers, request.query_params
            )
            if not asked:
                return await endpoint(*args)
            watch_client(request.scope)
            async with request_lock.held(locks, asked) as leases:
                setattr(request.state, request_lock.given_as, request_lock.given(leases))
                return await endpoint(*args)

        mark(locked, request_lock)
        return locked  # type: ignore[return-value]  # the same signature, wrapped

    return decorate


def check_routes(app: Starlette) -> None:
    """
    Check the decorated endpoints of an application against their routes.

    :raises ValueError: naming the field that is no path parameter, or the option that
        does not fit the client
    """
    for route, path, parameters in _routes(app.routes, "", []):
        endpoint: Any = route.endpoint
        methods = vars(endpoint).values() if inspect.isclass(endpoint) else [endpoint]
        for each in methods:
            for request_lock in marks_of(each):
                request_lock.check(app.state.locks, parameters, f"the path {path}")


def _routes(
    routes: Sequence[BaseRoute], prefix: str, parameters: list[str]
) -> Iterator[tuple[Route | WebSocketRoute, str, list[str]]]:
    """Yield the routes with their whole path and its parameters, mounts included."""
    for route in routes:
        if isinstance(route, Route | WebSocketRoute):
            yield route, prefix + route.path, [*parameters, *route.param_convertors]
        elif isinstance(route, Mount | Host):
            inner = [name for name in route.param_convertors if name != "path"]
            path = prefix + getattr(route, "path", "")
            yield from _routes(route.routes, path, [*parameters, *inner])


# Any: Starlette types handlers for requests apart from those for WebSockets.
async def _answer(connection: Any, error: Exception) -> Any:
    assert isinstance(error, LOCK_PROBLEMS)
    if isinstance(connection, WebSocket):
        ours, theirs = connection.application_state, connection.client_state
        if ours is theirs is WebSocketState.CONNECTED:
            await connection.close(WS_1013_TRY_AGAIN_LATER, problem_of(error).detail)
        if ours is not WebSocketState.CONNECTING:
            return None
        # Not accepted yet: servers refuse the handshake with a response.
    return problem_response(error)


def problem_response(error: LockProblem) -> Response:
    """Return the response that says why a request was not served."""
    problem = problem_of(error)
    return Response(problem.body, problem.status, problem.headers, MEDIA_TYPE)
