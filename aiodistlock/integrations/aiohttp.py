"""Locks for aiohttp.web applications: a middleware, and a decorator for handlers."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from typing import Any, TypeVar, Unpack

import anyio
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from aiodistlock import Lease, LockClient, SemaphoreLease
from aiodistlock.client import UrlKeywords
from aiodistlock.core.durations import Duration
from aiodistlock.core.keywords import UntimedLockKeywords, UntimedSemaphoreKeywords
from aiodistlock.integrations.leading import leading
from aiodistlock.integrations.problems import (
    CLIENT_GONE,
    LOCK_PROBLEMS,
    MEDIA_TYPE,
    LockProblem,
    problem_of,
)
from aiodistlock.integrations.request_lock import RequestLock, mark, marks_of
from aiodistlock.integrations.request_permits import RequestPermits

__all__ = [
    "LEASE",
    "LEASES",
    "LOCKS",
    "PERMIT",
    "leading",
    "lock_middleware",
    "locked_handler",
    "permit_handler",
    "permit_middleware",
    "setup_locks",
]

LOCKS = web.AppKey("LOCKS", LockClient)
"""Where an application has its client: ``request.config_dict[LOCKS]``."""

LEASE = web.RequestKey("LEASE", Lease)
"""Where a locked request has its lease: ``request[LEASE]``."""

LEASES = web.RequestKey("LEASES", tuple[Lease, ...])
"""Where a request under several locks has their leases: ``request[LEASES]``."""

PERMIT = web.RequestKey("PERMIT", SemaphoreLease)
"""Where a request with permits has their lease: ``request[PERMIT]``."""

_KEYS: dict[str, web.RequestKey[Any]] = {"lease": LEASE, "leases": LEASES, "permit": PERMIT}
"""Where a request has what is called so; see ``RequestLock.given_as``."""

_BEGUN = web.RequestKey("_BEGUN", bool)

UNSAFE_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})
"""The methods that change something, and so are locked by default."""

CLIENT_CHECK_PERIOD = 0.25
"""How often a locked request looks whether its client is there, seconds."""

LockName = str | Callable[[web.Request], str | None]
Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def setup_locks(
    app: web.Application, redis: str | Sequence[str] | LockClient, **options: Unpack[UrlKeywords]
) -> None:
    """
    Give an application its locks, as ``app[LOCKS]``: a cleanup context.

    The :class:`LockClient` opens and closes with the app.  Name templates are checked at
    start-up against the routes.  Sub-applications use their parent's.

    :param redis: one URL, or several of independent nodes, as for
        :meth:`LockClient.from_url`; or a client, which stays open when the app ends
    :param options: options for :meth:`LockClient.from_url`, such as ``unavailable_after``
    """
    if isinstance(redis, LockClient) and options:
        raise TypeError("options are for a URL: a LockClient has them already")

    async def opened(app: web.Application) -> AsyncIterator[None]:
        locks = redis if isinstance(redis, LockClient) else LockClient.from_url(redis, **options)
        app[LOCKS] = locks
        try:
            _check(app, locks)
            yield
        finally:
            if locks is not redis:
                await locks.aclose()

    app.cleanup_ctx.append(opened)
    app.on_response_prepare.append(_note_that_the_response_begins)


def lock_middleware(
    *names: LockName,
    methods: Collection[str] = UNSAFE_METHODS,
    timeout: Duration | None = 5.0,
    **options: Unpack[UntimedLockKeywords],
) -> Middleware:
    """
    Build a middleware that runs requests under a lock, their lease as ``request[LEASE]``.

    Several templates, and their leases as ``request[LEASES]``, are as for :func:`locked_handler`.

    It locks what stands behind it: the handler and later middlewares, with what they
    stream themselves; not the sending of a response that the handler returned.  423,
    503 and the end of a request whose client is gone are as for :func:`locked_handler`.

    :param names: templates with path parameters, ``{header[x-tenant]}`` and
        ``{query[page]}`` as fields; routes without the path parameters are not locked.
        Or one function from the request to the name, or to ``None`` for no lock
    :param methods: HTTP methods of the requests that are locked
    :param timeout: how long to wait before 423, ``None`` without end
    :param options: options of :class:`~aiodistlock.AsyncLock`
    :raises ValueError: naming all that is wrong in the templates and the options
    """
    return _middleware(RequestLock(names, {**options, "timeout": timeout}), methods)


def permit_middleware(
    name: LockName,
    limit: int,
    *,
    methods: Collection[str] = UNSAFE_METHODS,
    permits: int = 1,
    timeout: Duration | None = 5.0,
    **options: Unpack[UntimedSemaphoreKeywords],
) -> Middleware:
    """
    Build a middleware that runs requests with a permit, whose lease is ``request[PERMIT]``.

    It is as :func:`lock_middleware`, and 429 as for :func:`permit_handler`.

    :param name: a template, or a function, as for :func:`lock_middleware`
    :param limit: how many permits there are
    :param methods: HTTP methods of the requests that need one
    :param permits: how many a request needs, all of them or none
    :param timeout: how long to wait before 429, ``None`` without end
    :param options: options of :class:`~aiodistlock.Semaphore`
    :raises ValueError: naming all that is wrong in the template and the options
    """
    given = {**options, "timeout": timeout}
    return _middleware(RequestPermits(name, limit, permits, given), methods)


def _middleware(request_lock: RequestLock, methods: Collection[str]) -> Middleware:
    wanted = frozenset(method.upper() for method in methods)

    @web.middleware
    async def locked(request: web.Request, handler: Handler) -> web.StreamResponse:
        found = request.match_info
        if (
            request.method not in wanted
            or found.http_exception is not None  # no route: a 404 or 405 needs no lock
            or not found.keys() >= request_lock.parameters
        ):
            return await handler(request)
        return await _serve(request, request_lock, functools.partial(handler, request))

    mark(locked, request_lock)
    return locked


def locked_handler(
    *names: LockName,
    timeout: Duration | None = 5.0,
    **options: Unpack[UntimedLockKeywords],
) -> Callable[[Decorated], Decorated]:
    """
    Run a handler under a lock; its lease is ``request[LEASE]``.

    With several templates it is under all those locks, or none (:meth:`LockClient.together`), and
    the leases are ``request[LEASES]``, in the order of the templates; what a request names twice
    is one lock.

    It decorates coroutine functions and methods, and class-based views: a method, or all
    of them at once.  The lock covers the handler with what it streams itself; a response
    that it returns is sent after the release.  Somebody else holds the lock: 423 with
    ``Retry-After``.  The lease is lost: the handler is cancelled, 503, or the connection
    is aborted if the response has begun.  Redis is down: 503.  The client goes: the
    handler is cancelled, within a quarter of a second.

    :param names: templates with path parameters (their text: ``002`` is not ``2``),
        ``{header[x-tenant]}`` and ``{query[page]}`` as fields, or one function from the
        request to the name, or to ``None`` for no lock
    :param timeout: how long to wait before 423, ``None`` without end
    :param options: options of :class:`~aiodistlock.AsyncLock`
    :raises ValueError: naming all that is wrong in the templates and the options
    :raises TypeError: if what is decorated is no coroutine function and no view
    """
    return _decorator(RequestLock(names, {**options, "timeout": timeout}))


def permit_handler(
    name: LockName,
    limit: int,
    *,
    permits: int = 1,
    timeout: Duration | None = 5.0,
    **options: Unpack[UntimedSemaphoreKeywords],
) -> Callable[[Decorated], Decorated]:
    """
    Run a handler with a permit of a semaphore, whose lease is ``request[PERMIT]``.

    So many requests at a time, over all processes; for a request that has none within ``timeout``
    it is 429 with ``Retry-After``.  Everything else is as of :func:`locked_handler`.

    ::

        @permit_handler("gpu", 4, timeout=1.0)
        async def draw(request: web.Request) -> web.Response: ...  # on GPU request[PERMIT].slot

    :param name: a template, or a function from the request to the name, or to ``None`` if it needs
        no permit
    :param limit: how many permits there are
    :param permits: how many the request needs, all of them or none
    :param timeout: how long to wait before 429, ``None`` without end
    :param options: options of :class:`~aiodistlock.Semaphore`
    :raises ValueError: naming all that is wrong in the template and the options
    :raises TypeError: if what is decorated is no coroutine function and no view
    """
    return _decorator(RequestPermits(name, limit, permits, {**options, "timeout": timeout}))


def _decorator(request_lock: RequestLock) -> Callable[[Decorated], Decorated]:
    def decorate(handler: Decorated) -> Decorated:
        if isinstance(handler, type) and issubclass(handler, web.View):
            for method in _methods_of(handler):
                setattr(handler, method, decorate_one(getattr(handler, method)))
            return handler
        return decorate_one(handler)

    def decorate_one(handler: Decorated) -> Decorated:
        if not inspect.iscoroutinefunction(handler):
            raise TypeError(
                f"a handler with a lease is a coroutine function or a view, not {handler!r}"
            )

        @functools.wraps(handler)
        async def locked(*args: Any) -> web.StreamResponse:
            # A view's method has the view; a function the request; other methods both.
            last = args[-1]
            request: web.Request = last.request if isinstance(last, web.View) else last
            return await _serve(request, request_lock, functools.partial(handler, *args))

        mark(locked, request_lock)
        return locked  # type: ignore[return-value]  # the same signature, wrapped

    return decorate


async def _serve(
    request: web.Request,
    request_lock: RequestLock,
    handler: Callable[[], Awaitable[web.StreamResponse]],
) -> web.StreamResponse:
    """Serve a request under its lock, or say why it is not served."""
    locks = request.config_dict.get(LOCKS)
    if locks is None:
        raise RuntimeError("the app has no LockClient: call setup_locks(app, ...)")
    try:
        names = request_lock.names(request, request.match_info, request.headers, request.query)
        if not names:
            return await handler()
        with anyio.CancelScope() as scope:
            watch = asyncio.create_task(_watch(request, scope), name="aiodistlock client watch")
            try:
                async with request_lock.held(locks, names) as leases:
                    key = _KEYS[request_lock.given_as]
                    return await _under(request, key, request_lock.given(leases), handler)
            finally:
                watch.cancel()
    except LOCK_PROBLEMS as error:
        if request.get(_BEGUN):
            # The client must not take what it has got so far for the whole, nor can it
            # get a second response.
            if request.transport:
                request.transport.abort()
            raise
        return _problem_response(error)
    return web.Response(status=CLIENT_GONE)  # for the access log


async def _under(
    request: web.Request,
    key: web.RequestKey[Any],
    ours: Any,
    handler: Callable[[], Awaitable[web.StreamResponse]],
) -> web.StreamResponse:
    """Serve a request that has its leases, or its one."""
    # The outer ones again behind it: for middlewares between two locks.
    outer, request[key] = request.get(key, ours), ours
    response = await handler()
    request[key] = outer
    return response


async def _watch(request: web.Request, scope: anyio.CancelScope) -> None:
    """
    Cancel a scope when the client is gone.

    aiohttp cancels handlers only with ``handler_cancellation=True``, and has no event to
    wait for: so the connection is looked at.
    """
    while request.transport is not None and not request.transport.is_closing():
        await asyncio.sleep(CLIENT_CHECK_PERIOD)
    scope.cancel()


def _problem_response(error: LockProblem) -> web.Response:
    problem = problem_of(error)
    return web.Response(
        status=problem.status,
        headers=problem.headers,
        body=problem.body,
        content_type=MEDIA_TYPE,
    )


async def _note_that_the_response_begins(request: web.Request, _: web.StreamResponse) -> None:
    request[_BEGUN] = True


def _check(app: web.Application, locks: LockClient) -> None:
    """
    Check the locks of an application and those below it against their routes.

    :raises ValueError: naming the field that is no path parameter, or the option that
        does not fit the client
    """
    paths: list[list[str]] = []
    for path, parameters, handler in _handlers(app):
        paths.append(parameters)
        for request_lock in marks_of(handler):
            request_lock.check(locks, parameters, f"the path {path}")
    for middleware in app.middlewares:
        for request_lock in marks_of(middleware):
            needed = request_lock.parameters
            fits = next((each for each in paths if needed <= set(each)), None)
            known = sorted({name for each in paths for name in each}) if fits is None else fits
            request_lock.check(locks, known, "no path that")
    for resource in app.router.resources():
        below = resource.get_info().get("app")
        if below is not None:
            _check(below, locks)


def _handlers(app: web.Application) -> Iterator[tuple[str, list[str], Any]]:
    """Yield all handlers, those of a view one by one, with their path and its parameters."""
    for route in app.router.routes():
        if route.resource is None:
            continue
        pattern = route.resource.get_info().get("pattern")
        parameters = [] if pattern is None else list(pattern.groupindex)
        if isinstance(route.handler, type):
            methods: list[Any] = [getattr(route.handler, m) for m in _methods_of(route.handler)]
        else:
            methods = [route.handler]
        for each in methods:
            yield route.resource.canonical, parameters, each


def _methods_of(view: type) -> list[str]:
    """Name the methods of a view that serve requests."""
    return sorted(name.lower() for name in hdrs.METH_ALL if hasattr(view, name.lower()))
