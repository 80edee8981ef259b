"""A leader's task runs with the application: FastAPI, Starlette, aiohttp."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from anyio import fail_after
from fastapi import FastAPI
from starlette.applications import Starlette

from aiodistlock import LockClient, Term
from aiodistlock.integrations import aiohttp, fastapi, starlette

Main = Callable[[Term], Any]
Serve = Callable[[LockClient, Main], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def by_lifespan(app: FastAPI | Starlette) -> AsyncIterator[None]:
    """Run an application as its server does."""
    async with app.router.lifespan_context(app):
        yield


def in_fastapi(locks: LockClient, main: Main) -> AbstractAsyncContextManager[None]:
    """Lead in the lifespan of a FastAPI application."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with fastapi.leading(app.state.locks.election("job"), main):
            yield

    app = FastAPI(lifespan=lifespan)
    fastapi.setup_locks(app, locks)
    return by_lifespan(app)


def in_starlette(locks: LockClient, main: Main) -> AbstractAsyncContextManager[None]:
    """Lead in the lifespan of a Starlette application."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with starlette.leading(app.state.locks.election("job"), main):
            yield

    app = Starlette(lifespan=lifespan)
    starlette.setup_locks(app, locks)
    return by_lifespan(app)


@asynccontextmanager
async def in_aiohttp(locks: LockClient, main: Main) -> AsyncIterator[None]:
    """Lead in a cleanup context of an aiohttp application."""

    async def lead(app: web.Application) -> AsyncIterator[None]:
        async with aiohttp.leading(app[aiohttp.LOCKS].election("job"), main):
            yield

    app = web.Application()
    aiohttp.setup_locks(app, locks)
    app.cleanup_ctx.append(lead)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        yield
    finally:
        await runner.cleanup()


@pytest.fixture(params=[in_fastapi, in_starlette, in_aiohttp])
def serve(request: pytest.FixtureRequest) -> Serve:
    """Serve an application that leads, by one of the frameworks."""
    param: Serve = request.param
    return param


async def test_one_replica_leads_and_the_next_one_when_that_is_shut_down(serve: Serve) -> None:
    """What led has ended by then; the terms rise."""
    leaders: list[str] = []
    terms: list[int] = []
    led = asyncio.Event()

    def main(replica: str) -> Main:
        async def lead(term: Term) -> None:
            assert leaders == []
            leaders.append(replica)
            terms.append(term.fencing_token)
            led.set()
            try:
                await asyncio.sleep(3600)
            finally:
                await asyncio.sleep(0)
                leaders.remove(replica)

        return lead

    async with LockClient.in_memory() as one, LockClient.in_memory(share=one) as two:
        with fail_after(20):
            first, second = serve(one, main("one")), serve(two, main("two"))
            async with first:
                await led.wait()
                led.clear()
                await second.__aenter__()
                assert leaders == ["one"]
            await led.wait()
            assert leaders == ["two"]
            await second.__aexit__(None, None, None)
        assert leaders == []
        assert terms == sorted(set(terms))
        assert await one.election("job").leader() is None


async def test_an_error_of_main_is_logged_and_the_application_goes_on(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """It is not lost, nor told at the shutdown only."""

    async def fail(_: Term) -> None:
        raise KeyError("mine")

    caplog.set_level(logging.ERROR, "aiodistlock")
    async with LockClient.in_memory() as locks, serve(locks, fail):
        with fail_after(20):
            while "what leads 'job' here failed" not in caplog.text:
                await asyncio.sleep(0.01)
        assert "KeyError: 'mine'" in caplog.text
        assert await locks.election("job").leader() is None
