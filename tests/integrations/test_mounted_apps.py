"""Applications that are mounted in others, and what stands in for locks in tests."""

import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated

import pytest
import redis.asyncio as redis_asyncio
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Host, Mount, Route

from aiodistlock import Lease, LockClient
from aiodistlock.integrations.fastapi import LockDependency, get_locks, setup_locks
from aiodistlock.integrations.starlette import locked_endpoint
from aiodistlock.integrations.starlette import setup_locks as setup_starlette
from aiodistlock.testing.discovery import free_port
from tests.integrations.asgi_server import called, served


def fastapi_app(template: str, namespace: str) -> FastAPI:
    """Make an application with one locked route; it is not set up."""
    app = FastAPI()

    @app.get("/wallets/{wallet_id}")
    async def read(
        wallet_id: int,
        lease: Annotated[Lease, LockDependency(template, namespace=namespace, timeout=0)],
    ) -> str:
        return lease.name

    return app


def starlette_app(template: str, namespace: str) -> Starlette:
    """Make an application with one locked route; it is not set up."""

    @locked_endpoint(template, namespace=namespace, timeout=0)
    async def read(request: Request) -> Response:
        return JSONResponse(request.state.lease.name)

    return Starlette(routes=[Route("/wallets/{wallet_id:int}", read)])


def outer_app(kind: str, redis_url: str) -> Starlette:
    """Make an application that is set up."""
    if kind == "FastAPI":
        app = FastAPI()
        setup_locks(app, redis_url)
        return app
    made = Starlette()
    setup_starlette(made, redis_url)
    return made


Apps = tuple[str, Callable[[str, str], Starlette]]
"""The outer application's kind, and what makes the inner one."""

COMBINATIONS = [
    pytest.param(("FastAPI", fastapi_app), id="FastAPI in FastAPI"),
    pytest.param(("FastAPI", starlette_app), id="Starlette in FastAPI"),
    pytest.param(("Starlette", starlette_app), id="Starlette in Starlette"),
]


@pytest.mark.parametrize("apps", COMBINATIONS)
@pytest.mark.parametrize("deep", [False, True], ids=["mounted", "deep"])
async def test_mounted_applications_use_the_locks_above(
    redis_url: str, elsewhere: LockClient, namespace: str, apps: Apps, deep: bool
) -> None:
    """They lock, with path parameters of the mount, too, and answer contention themselves."""
    outer, make = apps
    app = outer_app(outer, redis_url)
    inner = make("{tenant}:{wallet_id}", namespace)
    if deep:
        inner = Starlette(routes=[Mount("/{tenant}", routes=[Mount("/v1", inner)])])
    app.mount("/t" if deep else "/t/{tenant}/v1", inner)
    for _ in range(2):  # an application may start again
        async with served(app) as client:
            url = "/t/acme/v1/wallets/042"
            assert (await client.get(url)).json() == "acme:42"
            async with elsewhere.lock("acme:42", namespace=namespace):
                answer = await client.get(url)
            assert answer.status_code == 423
            assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("apps", COMBINATIONS)
async def test_a_wrong_field_of_a_mounted_application_fails_the_start(
    redis_url: str, namespace: str, apps: Apps
) -> None:
    """The error tells the whole path, and its parameters."""
    outer, make = apps
    app = outer_app(outer, redis_url)
    app.mount("/{tenant}", make("{walet_id}", namespace))
    told = "'walet_id'.*/{tenant}/wallets/{wallet_id(:int)?} has tenant, wallet_id"
    with pytest.raises(ValueError, match=told):
        async with app.router.lifespan_context(app):
            pass


async def test_a_loss_in_a_mounted_application_is_answered_with_503(
    redis_url: str, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """Its own 503, by the time the lease is known to be lost."""
    app, inner = outer_app("FastAPI", redis_url), FastAPI()
    app.mount("/inner", inner)

    @inner.get("/", dependencies=[LockDependency("n", namespace=namespace, scope="function")])
    async def read() -> None:
        assert await redis.delete(f"{namespace}n") == 1

    async with served(app) as client:
        answer = await client.get("/inner/")
    assert answer.status_code == 503
    assert answer.json()["detail"] == "The lock was lost while the request was served."


async def test_a_host_is_an_application_below(
    redis_url: str, elsewhere: LockClient, namespace: str
) -> None:
    """Routes by host name are found and checked, with the parameters of the name."""
    app = Starlette(
        routes=[Host("{tenant}.test", starlette_app("{tenant}:{wallet_id}", namespace))]
    )
    setup_starlette(app, redis_url)
    async with called(app) as client, elsewhere.lock("acme:1", namespace=namespace):
        answer = await client.get("/wallets/1", headers={"host": "acme.test"})
    assert answer.status_code == 423
    app.host("{tenant}.wrong", starlette_app("{tenent}", namespace))
    with pytest.raises(ValueError, match=r"'tenent'.* has tenant, wallet_id"):
        async with app.router.lifespan_context(app):
            pass


async def test_a_mounted_application_may_have_locks_of_its_own(
    redis_url: str, elsewhere: LockClient, namespace: str
) -> None:
    """If its lifespan runs, in that of the outer one, it uses what it was set up with."""
    inner = fastapi_app("{wallet_id}", namespace)
    setup_locks(inner, elsewhere)

    @inner.get("/")
    async def same(request: Request) -> bool:
        return await get_locks(request) is elsewhere

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with inner.router.lifespan_context(inner):
            yield

    app = FastAPI(lifespan=lifespan)
    setup_locks(app, redis_url)
    app.mount("/inner", inner)
    async with served(app) as client:
        assert (await client.get("/inner/")).json() is True
        assert (await client.get("/inner/wallets/1")).json() == "1"


@pytest.mark.parametrize("replaced", [False, True], ids=["FastAPI's", "own"])
async def test_openapi_of_a_mounted_application_lists_the_answers(
    redis_url: str, namespace: str, replaced: bool
) -> None:
    """Once it has started, as the outer one's, also where somebody has made a schema of his own."""
    app, inner = outer_app("FastAPI", redis_url), fastapi_app("{wallet_id}", namespace)
    app.mount("/inner", inner)
    if replaced:
        schema = inner.openapi()
        inner.openapi = lambda: schema  # type: ignore[method-assign]  # FastAPI's documented way
    async with called(app) as client:
        paths = (await client.get("/inner/openapi.json")).json()["paths"]
    assert {"423", "503"} <= paths["/wallets/{wallet_id}"]["get"]["responses"].keys()


async def test_tests_may_give_the_locks(namespace: str) -> None:
    """``dependency_overrides`` reach the locks of all dependencies: no Redis is asked."""
    app = fastapi_app("{wallet_id}", namespace)
    setup_locks(app, f"redis://127.0.0.1:{free_port()}")
    async with LockClient.in_memory() as locks:
        app.dependency_overrides[get_locks] = lambda: locks
        async with called(app) as client:
            assert (await client.get("/wallets/1")).json() == "1"
            async with LockClient.in_memory(share=locks).lock("1", namespace=namespace):
                assert (await client.get("/wallets/1")).status_code == 423


def test_a_test_client_may_come_again(redis_url: str, namespace: str) -> None:
    """One application may run in one event loop after the other."""
    with warnings.catch_warnings():
        # That it wants another HTTP client is between Starlette and this project.
        warnings.simplefilter("ignore")
        from fastapi.testclient import TestClient
    app = fastapi_app("{wallet_id}", namespace)
    setup_locks(app, redis_url)
    for _ in range(2):
        with TestClient(app) as client:
            assert client.get("/wallets/1").json() == "1"
