"""Starlette without FastAPI: locked endpoints, on a real Redis."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import redis.asyncio as redis_asyncio
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from aiodistlock import LockClient
from aiodistlock.integrations.starlette import (
    get_locks,
    locked_endpoint,
    permit_endpoint,
    setup_locks,
)
from tests.faults.world import eventually
from tests.integrations.asgi_server import called, served


def app_of(redis_url: str, *routes: Route | Mount) -> Starlette:
    """Build an application that is set up."""
    app = Starlette(routes=routes)
    setup_locks(app, redis_url)
    return app


async def test_an_endpoint_runs_under_its_lock(
    redis_url: str, elsewhere: LockClient, namespace: str
) -> None:
    """Functions and methods have their lease in the request; contention is a 423."""

    @locked_endpoint("{wallet_id}:{header[x-tenant]}", namespace=namespace, timeout=0)
    async def function(request: Request) -> Response:
        assert get_locks(request) is request.app.state.locks
        return JSONResponse(request.state.lease.name)

    class View(HTTPEndpoint):
        @locked_endpoint("{wallet_id}:{query[t]}", namespace=namespace, timeout=0)
        async def post(self, request: Request) -> Response:
            return JSONResponse(request.state.lease.name)

    app = app_of(
        redis_url,
        Route("/f/{wallet_id:int}", function, methods=["POST"]),
        Mount("/{wallet_id}", routes=[Route("/v", View)]),
    )
    async with called(app) as client:
        for url in ("/f/042?t=acme", "/42/v?t=acme"):
            headers = {"X-Tenant": "acme"}
            assert (await client.post(url, headers=headers)).json() == "42:acme"
            async with elsewhere.lock("42:acme", namespace=namespace, ttl=3.0):
                answer = await client.post(url, headers=headers)
            assert answer.status_code == 423
            assert answer.headers["retry-after"] == "3"
        answer = await client.post("/42/v")
        assert answer.status_code == 422
        assert answer.json()["detail"] == "The query parameter 't' is missing."


async def test_a_function_may_want_no_lock(redis_url: str, namespace: str) -> None:
    """A name function sees the request, and may return ``None``."""

    def name(request: Request) -> str | None:
        return request.query_params.get("n")

    @locked_endpoint(name, namespace=namespace)
    async def read(request: Request) -> Response:
        return JSONResponse(hasattr(request.state, "lease"))

    async with called(app_of(redis_url, Route("/", read))) as client:
        assert (await client.get("/")).json() is False
        assert (await client.get("/?n=a")).json() is True


async def test_so_many_requests_have_a_permit_and_429_is_for_others(
    redis_url: str, elsewhere: LockClient, namespace: str
) -> None:
    """Its lease has a slot, and stands beside that of a lock; who has none comes again later."""

    @permit_endpoint("gpu:{kind}", 2, timeout=0, namespace=namespace)
    @locked_endpoint("image:{query[n]}", namespace=namespace)
    async def draw(request: Request) -> Response:
        return JSONResponse([request.state.permit.slot, request.state.lease.name])

    semaphore = elsewhere.semaphore("gpu:big", 2, namespace=namespace)
    async with called(app_of(redis_url, Route("/{kind}", draw))) as client:
        assert (await client.get("/big?n=7")).json() == [0, "image:7"]
        async with semaphore:
            assert (await client.get("/big?n=7")).json() == [1, "image:7"]
            async with semaphore:
                answer = await client.get("/big?n=7")
                assert answer.status_code == 429
                assert answer.headers["retry-after"] == "1"
                assert answer.headers["content-type"] == "application/problem+json"
                assert (await client.get("/small?n=7")).status_code == 200
        assert (await client.get("/big")).status_code == 422
        assert (await semaphore.inspect()).leases == ()


@pytest.mark.parametrize("outer", ["lock", "permit"])
async def test_both_of_two_decorators_are_checked_at_the_start(redis_url: str, outer: str) -> None:
    """The inner one, too."""

    async def read(request: Request) -> Response:
        raise AssertionError

    wrong, right = "{walet_id}", "{wallet_id}"
    if outer == "lock":
        endpoint = locked_endpoint(right)(permit_endpoint(wrong, 2)(read))
    else:
        endpoint = permit_endpoint(right, 2)(locked_endpoint(wrong)(read))
    app = app_of(redis_url, Route("/{wallet_id}", endpoint))
    with pytest.raises(ValueError, match="walet_id"):
        async with app.router.lifespan_context(app):
            pass


async def test_a_quorum_has_no_permits_for_requests() -> None:
    """The application does not start, and says why."""

    @permit_endpoint("gpu", 2)
    async def draw(request: Request) -> Response:
        raise AssertionError

    app = Starlette(routes=[Route("/", draw)])
    setup_locks(app, [f"redis://localhost:{port}" for port in (1, 2, 3)])
    with pytest.raises(ValueError, match="not a quorum"):
        async with app.router.lifespan_context(app):
            pass


async def test_a_wrong_field_fails_the_start(redis_url: str) -> None:
    """Templates are checked against the path of their route, mounts included."""

    @locked_endpoint("{walet_id}")
    async def read(request: Request) -> Response:
        raise AssertionError

    app = app_of(redis_url, Mount("/{tenant}", routes=[Route("/{wallet_id}", read)]))
    told = "'walet_id'.*the path /{tenant}/{wallet_id} has tenant, wallet_id"
    with pytest.raises(ValueError, match=told):
        async with app.router.lifespan_context(app):
            pass


def test_what_cannot_be_locked_is_refused() -> None:
    """Wrong options, templates and ``def`` endpoints fail when decorating."""

    def read(request: Request) -> Response:
        raise AssertionError

    with pytest.raises(TypeError, match="async def"):
        locked_endpoint("n")(read)  # type: ignore[type-var]  # what is tested
    with pytest.raises(ValueError, match="ttl"):
        locked_endpoint("n", ttl=0)
    with pytest.raises(ValueError, match="template"):
        locked_endpoint("{")


async def test_setting_up_comes_before_serving(redis_url: str) -> None:
    """Later middleware cannot be added any more, as Starlette says."""
    app = app_of(redis_url)
    async with called(app) as client:
        await client.get("/")
        with pytest.raises(RuntimeError, match="after an application has started"):
            setup_locks(app, redis_url)


async def test_an_application_has_its_locks_once(redis_url: str) -> None:
    """A second set-up would take them from the first: it fails the start, and says so."""
    app = app_of(redis_url)
    setup_locks(app, redis_url)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="has locks already"):
            async with app.router.lifespan_context(app):
                pass


async def test_the_lock_ends_before_a_returned_stream(
    redis_url: str, elsewhere: LockClient, namespace: str
) -> None:
    """The decorator covers the endpoint, not what its response sends later."""
    lock = elsewhere.lock("n", namespace=namespace)

    async def stream() -> AsyncIterator[str]:
        yield str(await lock.locked())

    @locked_endpoint("n", namespace=namespace)
    async def read(request: Request) -> Response:
        assert await lock.locked()
        return StreamingResponse(stream())

    async with called(app_of(redis_url, Route("/", read))) as client:
        assert (await client.get("/")).text == "False"


class Passing(BaseHTTPMiddleware):
    """Middleware that runs the application in a task of its own."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        """Do nothing but that."""
        return await call_next(request)


def below_middleware(redis_url: str, route: Route, where: str) -> Starlette:
    """Build an application with such a middleware outside of ours, or inside."""
    app = Starlette(routes=[route], middleware=[Middleware(Passing)] if where == "inside" else [])
    setup_locks(app, redis_url)
    if where == "outside":
        app.add_middleware(Passing)
    return app


@pytest.mark.parametrize("where", ["none", "inside", "outside"])
async def test_a_loss_is_answered_with_503(
    redis_url: str,
    redis: redis_asyncio.Redis,
    namespace: str,
    where: str,
) -> None:
    """The endpoint is cancelled."""

    @locked_endpoint("n", namespace=namespace, ttl=1.2)
    async def read(request: Request) -> Response:
        await redis.delete(f"{namespace}n")
        await asyncio.sleep(3600)
        raise AssertionError

    async with served(below_middleware(redis_url, Route("/", read), where)) as client:
        answer = await client.get("/")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


@pytest.mark.parametrize("where", ["none", "inside", "outside"])
async def test_a_client_that_goes_ends_its_request(
    redis_url: str, elsewhere: LockClient, namespace: str, where: str
) -> None:
    """The endpoint is cancelled and the lock is free."""
    began = asyncio.Event()

    @locked_endpoint("n", namespace=namespace)
    async def read(request: Request) -> Response:
        began.set()
        await asyncio.sleep(3600)
        raise AssertionError

    async with served(below_middleware(redis_url, Route("/", read), where)) as client:
        request = asyncio.create_task(client.get("/"))
        await began.wait()
        request.cancel()
        await eventually(elsewhere.lock("n", namespace=namespace).locked, wanted=False)


@pytest.mark.parametrize("size", [0, 10, 3_000_000])
async def test_a_body_read_under_the_lock_is_whole(
    redis_url: str, namespace: str, size: int
) -> None:
    """What the watch reads ahead of the endpoint reaches it, in order."""
    body = bytes(index % 251 for index in range(size))

    @locked_endpoint("n", namespace=namespace)
    async def read(request: Request) -> Response:
        await asyncio.sleep(0.05)  # for the watch to read as far ahead as it may
        return JSONResponse(await request.body() == body)

    async with served(app_of(redis_url, Route("/", read, methods=["POST"]))) as client:
        for _ in range(2):  # on one connection
            assert (await client.post("/", content=body)).json() is True


@pytest.mark.parametrize(("path", "name"), [("/{wallet_id}", "002"), ("/{wallet_id:int}", "2")])
async def test_a_name_has_what_the_paths_convertor_returns(
    redis_url: str, namespace: str, path: str, name: str
) -> None:
    """The text of the path, unless the route converts it."""

    @locked_endpoint("{wallet_id}", namespace=namespace)
    async def read(request: Request) -> Response:
        return JSONResponse(request.state.lease.name)

    async with served(app_of(redis_url, Route(path, read))) as client:
        assert (await client.get("/002")).json() == name


def test_one_error_names_all_that_is_wrong() -> None:
    """Template and options, whatever is declared with them."""
    for make in (locked_endpoint,):
        with pytest.raises(ValueError, match="template") as caught:
            make("{", ttl=-1, timeout=-1, namespace="aiodistlock:")
        for word in ("template", "ttl", "timeout", "reserved"):
            assert word in str(caught.value), caught.value
