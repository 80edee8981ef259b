"""WebSockets of FastAPI and Starlette under a lock, on a real server."""

import asyncio
import json
from typing import Annotated

import pytest
import redis.asyncio as redis_asyncio
from fastapi import FastAPI, WebSocket
from starlette.routing import WebSocketRoute
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from aiodistlock import Lease, LockClient
from aiodistlock.integrations.fastapi import LockDependency
from aiodistlock.integrations.starlette import locked_endpoint
from tests.faults.world import eventually
from tests.integrations.asgi_server import served


async def serve(websocket: WebSocket) -> None:
    """Tell that the lock is held, and wait for the client to go."""
    await websocket.accept()
    await websocket.send_text("held")
    async for _ in websocket.iter_text():
        pass


def add_route(app: FastAPI, kind: str, namespace: str) -> None:
    """Add a WebSocket whose lock is named by its path."""
    if kind == "FastAPI":
        lock = LockDependency("{n}", namespace=namespace, timeout=0, ttl=1.0)

        @app.websocket("/{n}")
        async def endpoint(websocket: WebSocket, n: str, lease: Annotated[Lease, lock]) -> None:
            await serve(websocket)
    else:
        locked = locked_endpoint("{n}", namespace=namespace, timeout=0, ttl=1.0)
        app.router.routes.append(WebSocketRoute("/{n}", locked(serve)))


def connection(base: str) -> connect:
    """Connect to the WebSocket whose lock is called ``n``."""
    return connect(base.replace("http", "ws", 1) + "/n")


async def closing(websocket: ClientConnection) -> tuple[int, str]:
    """Wait for the server to close, and return what it says."""
    with pytest.raises(ConnectionClosed) as closed:
        await websocket.recv()
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code, closed.value.rcvd.reason


@pytest.mark.parametrize("kind", ["FastAPI", "Starlette"])
async def test_a_websocket_is_locked_while_it_is_open(
    app: FastAPI, elsewhere: LockClient, namespace: str, kind: str
) -> None:
    """Contention refuses the handshake, with 423; the lock is free when the client has gone."""
    add_route(app, kind, namespace)
    async with served(app) as client:
        base = str(client.base_url)
        async with connection(base) as websocket:
            assert await websocket.recv() == "held"
            with pytest.raises(InvalidStatus) as refused:
                await connection(base)
            answer = refused.value.response
            assert answer.status_code == 423
            assert answer.headers["retry-after"] == "1"
            assert json.loads(answer.body or b"")["title"] == "Locked"
        await eventually(elsewhere.lock("n", namespace=namespace).locked, wanted=False)


@pytest.mark.parametrize("kind", ["FastAPI", "Starlette"])
async def test_a_loss_closes_a_websocket(
    app: FastAPI, redis: redis_asyncio.Redis, namespace: str, kind: str
) -> None:
    """The endpoint is cancelled, and the client told to try again later."""
    add_route(app, kind, namespace)
    async with served(app) as client, connection(str(client.base_url)) as websocket:
        assert await websocket.recv() == "held"
        assert await redis.delete(f"{namespace}n") == 1
        told = (1013, "The lock was lost while the request was served.")
        assert await closing(websocket) == told


@pytest.mark.parametrize("kind", ["FastAPI", "Starlette"])
async def test_a_wrong_field_fails_the_start(app: FastAPI, kind: str) -> None:
    """Templates of WebSockets are checked as others are."""

    @app.websocket("/fastapi/{n}", dependencies=[LockDependency("{m}")] * (kind == "FastAPI"))
    async def endpoint(n: str) -> None: ...

    if kind == "Starlette":
        app.router.routes.append(WebSocketRoute("/{n}", locked_endpoint("{m}")(serve)))
    with pytest.raises(ValueError, match=r"'m'.* has n"):
        async with app.router.lifespan_context(app):
            pass


async def test_a_loss_behind_the_end_of_a_websocket_says_nothing(
    app: FastAPI, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """A WebSocket that the endpoint has closed is not closed again."""
    ended: list[str] = []

    @app.websocket("/n")
    async def endpoint(
        websocket: WebSocket,
        lease: Annotated[Lease, LockDependency("n", namespace=namespace)],
    ) -> None:
        await websocket.accept()
        await websocket.close(4000, "done")
        assert await redis.delete(f"{namespace}n") == 1

    async def noting(scope: dict[str, str], receive: object, send: object) -> None:
        try:
            await app(scope, receive, send)  # type: ignore[arg-type]  # whatever it gets
        except Exception as error:  # noqa: BLE001 - what is tested
            ended.append(repr(error))
        ended.append(scope["type"])

    async with served(noting) as client:
        async with connection(str(client.base_url)) as websocket:
            assert await closing(websocket) == (4000, "done")
        await eventually(lambda: asyncio.sleep(0, ended), ["websocket"])
