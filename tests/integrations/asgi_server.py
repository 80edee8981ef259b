"""An ASGI application on a real server, and in memory, for the tests of this folder."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import uvicorn


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to pytest."""
        yield


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Serve an application by uvicorn on a port of its own, and call it."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        config = uvicorn.Config(app, log_level="critical", lifespan="on", ws="websockets-sansio")
        server = _Server(config)
        running = asyncio.create_task(server.serve([listening]))
        try:
            while not server.started:
                assert not running.done(), "the application did not start"
                await asyncio.sleep(0.005)  # uvicorn has no event for it
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
                yield client
        finally:
            server.should_exit = True
            await running


@asynccontextmanager
async def called(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Run an application's lifespan, and call it without a server."""
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test") as client,
    ):
        yield client
