"""Requests under several locks, all or none, in each framework."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Annotated, Any

import pytest
from aiohttp import web
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from aiodistlock import Lease, LockClient
from aiodistlock.integrations import aiohttp, fastapi, starlette
from tests.faults.world import lose
from tests.integrations.asgi_server import called
from tests.integrations.test_aiohttp import served

TEMPLATES = ("wallet:{source}", "{target}:{header[x-tenant]}")
PATH = "/{source}/{target}"

Call = Callable[[str], Awaitable[tuple[int, Any]]]
"""Posts to a path; returns status and body."""

Serve = Callable[[str, str], AbstractAsyncContextManager[Call]]
"""Serves an application, on a Redis and in a namespace, whose one handler answers with names."""

HEADERS = {"X-Tenant": "acme"}


def names(leases: tuple[Lease, ...]) -> list[str]:
    """Name the leases that a handler has."""
    assert all(lease.is_held for lease in leases)
    return [lease.name for lease in leases]


@asynccontextmanager
async def calls_to(app: Starlette) -> AsyncIterator[Call]:
    """Call an ASGI application."""
    async with called(app) as client:

        async def call(path: str) -> tuple[int, Any]:
            answer = await client.post(path, headers=HEADERS)
            return answer.status_code, answer.json()

        yield call


def of_fastapi(redis_url: str, namespace: str) -> AbstractAsyncContextManager[Call]:
    """An injected tuple."""
    app = FastAPI()
    fastapi.setup_locks(app, redis_url)
    both = fastapi.LockDependency(*TEMPLATES, namespace=namespace, timeout=0)

    @app.post(PATH)
    async def move(leases: Annotated[tuple[Lease, ...], both]) -> list[str]:
        return names(leases)

    return calls_to(app)


def of_starlette(redis_url: str, namespace: str) -> AbstractAsyncContextManager[Call]:
    """A decorated endpoint."""

    @starlette.locked_endpoint(*TEMPLATES, namespace=namespace, timeout=0)
    async def move(request: Request) -> Response:
        return JSONResponse(names(request.state.leases))

    app = Starlette(routes=[Route(PATH, move, methods=["POST"])])
    starlette.setup_locks(app, redis_url)
    return calls_to(app)


async def names_of(request: web.Request) -> web.Response:
    """Answer with the names of the leases."""
    return web.json_response(names(request[aiohttp.LEASES]))


@asynccontextmanager
async def of_aiohttp(
    redis_url: str, namespace: str, *, by_middleware: bool = False
) -> AsyncIterator[Call]:
    """A decorated handler, or a middleware."""
    options: Any = {"namespace": namespace, "timeout": 0}
    if by_middleware:
        app = web.Application(middlewares=[aiohttp.lock_middleware(*TEMPLATES, **options)])
        app.router.add_post(PATH, names_of)
    else:
        app = web.Application()
        app.router.add_post(PATH, aiohttp.locked_handler(*TEMPLATES, **options)(names_of))
    aiohttp.setup_locks(app, redis_url)
    async with served(app) as client:

        async def call(path: str) -> tuple[int, Any]:
            answer = await client.post(path, headers=HEADERS)
            return answer.status, await answer.json(content_type=None)

        yield call


def of_aiohttp_middleware(redis_url: str, namespace: str) -> AbstractAsyncContextManager[Call]:
    """A middleware."""
    return of_aiohttp(redis_url, namespace, by_middleware=True)


@pytest.fixture(params=[of_fastapi, of_starlette, of_aiohttp, of_aiohttp_middleware])
def serve(request: pytest.FixtureRequest) -> Serve:
    """Each framework."""
    param: Serve = request.param
    return param


async def test_a_request_is_under_all_its_locks_or_none(
    serve: Serve, redis_url: str, elsewhere: LockClient, namespace: str
) -> None:
    """Its leases come in the order of the templates; that one is held is a 423."""
    async with serve(redis_url, namespace) as call:
        assert await call("/1/2") == (200, ["wallet:1", "2:acme"])
        for name, other in (("wallet:1", "2:acme"), ("2:acme", "wallet:1")):
            async with elsewhere.lock(name, namespace=namespace):
                status, _ = await call("/1/2")
                assert status == 423
                async with elsewhere.lock(other, namespace=namespace, timeout=10.0):
                    pass
        assert await call("/1/2") == (200, ["wallet:1", "2:acme"])


async def test_what_a_request_names_twice_is_locked_once(
    serve: Serve, redis_url: str, namespace: str
) -> None:
    """It has that lease for both templates."""
    async with serve(redis_url, namespace) as call:
        assert await call("/acme/wallet") == (200, ["wallet:acme", "wallet:acme"])


@pytest.mark.parametrize(
    "take", [fastapi.LockDependency, starlette.locked_endpoint, aiohttp.locked_handler]
)
def test_what_is_wrong_in_several_templates_is_told_at_once(take: Callable[..., Any]) -> None:
    """Where it is written; of several each must be a template, and there must be one."""
    with pytest.raises(ValueError, match=r"ttl.*\{a.*\{b") as caught:
        take("{a", "{b", ttl=-1)
    assert "malformed" in str(caught.value)
    with pytest.raises(ValueError, match="each must be a template"):
        take("a", lambda: "b")
    with pytest.raises(ValueError, match="pass a name"):
        take()


async def test_no_response_begins_once_any_of_the_leases_is_lost(
    redis_url: str, namespace: str
) -> None:
    """FastAPI's endpoints in threads run on; they are answered with a 503 all the same."""
    app = FastAPI()
    fastapi.setup_locks(app, redis_url)
    both = fastapi.LockDependency("{source}", "{target}", namespace=namespace)
    loop = asyncio.get_running_loop()

    @app.post(PATH)
    def move(source: str, target: str, leases: Annotated[tuple[Lease, ...], both]) -> None:
        async def release() -> None:
            lose(leases[1])

        asyncio.run_coroutine_threadsafe(release(), loop).result(10)

    async with calls_to(app) as call:
        status, problem = await call("/1/2")
        assert (status, problem["detail"]) == (
            503,
            "The lock was lost while the request was served.",
        )
