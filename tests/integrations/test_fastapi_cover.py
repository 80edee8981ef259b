"""FastAPI: how far a lease reaches, and what ends a request before its end."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any, Literal

import httpx
import pytest
import redis.asyncio as redis_asyncio
from fastapi import BackgroundTasks, Depends, FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse

from aiodistlock import Lease, LeaseLost, LockClient
from aiodistlock.integrations.fastapi import LockDependency
from tests.faults.world import eventually
from tests.integrations.asgi_server import called, served

TTL = 1.2
"""Renewed, and so found lost, within 0.1 s."""

Held = Callable[[], Awaitable[bool]]


@pytest.fixture
async def held(redis_url: str, namespace: str) -> AsyncIterator[Held]:
    """Ask Redis, as another process, whether the lock is held."""
    async with LockClient.from_url(redis_url) as client:
        yield client.lock("n", namespace=namespace).locked


async def take_away(redis: redis_asyncio.Redis, namespace: str) -> None:
    """Have the lease lost, as by an operator's hand."""
    assert await redis.delete(f"{namespace}n") == 1


@pytest.mark.parametrize("scope", ["request", "function"])
async def test_a_loss_cancels_the_endpoint(
    app: FastAPI,
    redis: redis_asyncio.Redis,
    namespace: str,
    scope: Literal["request", "function"],
) -> None:
    """The endpoint is cancelled where it waits, and the answer is 503."""
    ended: list[str] = []

    @app.get("/", dependencies=[LockDependency("n", namespace=namespace, ttl=TTL, scope=scope)])
    async def read() -> None:
        await take_away(redis, namespace)
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async with served(app) as client:
        answer = await client.get("/")
    assert ended == ["cancelled"]
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"] == "The lock was lost while the request was served."


async def test_an_application_may_answer_a_loss_itself(
    app: FastAPI, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """Its own exception handler comes before ours, and its response is not replaced."""

    @app.exception_handler(LeaseLost)
    async def own(_: Request, error: LeaseLost) -> JSONResponse:
        return JSONResponse(error.name, 409)

    @app.get("/", dependencies=[LockDependency("n", namespace=namespace, ttl=TTL)])
    async def read() -> None:
        await take_away(redis, namespace)
        await asyncio.sleep(3600)

    async with served(app) as client:
        answer = await client.get("/")
    assert (answer.status_code, answer.json()) == (409, "n")


async def test_an_endpoint_may_release_its_lock(app: FastAPI, held: Held, namespace: str) -> None:
    """By hand, before its time: that is no loss."""

    @app.get("/")
    async def read(lease: Annotated[Lease, LockDependency("n", namespace=namespace)]) -> bool:
        await lease.release()
        return await held()

    async with served(app) as client:
        assert (await client.get("/")).json() is False


async def test_a_thread_is_not_stopped_by_a_loss(
    app: FastAPI, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """A ``def`` endpoint runs on to its end, ``lease.check()`` tells it; then 503."""
    gone = threading.Event()
    told: list[str] = []
    lock = LockDependency("n", namespace=namespace, ttl=TTL)

    @app.get("/")
    def read(lease: Annotated[Lease, lock]) -> None:
        loop.call_soon_threadsafe(lambda: loop.create_task(lose(lease)))
        assert gone.wait(10)
        told.append("not stopped")
        try:
            lease.check()
        except LeaseLost:
            told.append("told")

    async def lose(lease: Lease) -> None:
        await take_away(redis, namespace)
        await lease.wait_lost()
        gone.set()

    loop = asyncio.get_running_loop()
    async with called(app) as client:  # which would raise what the app lets out
        assert (await client.get("/")).status_code == 503
    assert told == ["not stopped", "told"]


@pytest.mark.parametrize(("scope", "status"), [("request", 200), ("function", 503)])
async def test_a_loss_that_shows_at_the_release(
    app: FastAPI,
    redis: redis_asyncio.Redis,
    namespace: str,
    scope: Literal["request", "function"],
    status: int,
) -> None:
    """Only scope "function" knows of it before the response is sent."""

    @app.get("/", dependencies=[LockDependency("n", namespace=namespace, scope=scope)])
    async def read() -> None:
        await take_away(redis, namespace)

    async with served(app) as client:
        assert (await client.get("/")).status_code == status


@pytest.mark.parametrize(("scope", "covered"), [("request", True), ("function", False)])
async def test_what_the_lease_covers(
    app: FastAPI, held: Held, namespace: str, scope: Literal["request", "function"], covered: bool
) -> None:
    """Scope "request" covers the stream and background tasks, "function" neither."""
    seen: dict[str, bool] = {}

    async def stream() -> AsyncIterator[str]:
        seen["stream"] = await held()
        yield "a"

    async def background() -> None:
        seen["background"] = await held()

    @app.get("/", dependencies=[LockDependency("n", namespace=namespace, scope=scope)])
    async def read(tasks: BackgroundTasks) -> StreamingResponse:
        seen["endpoint"] = await held()
        tasks.add_task(background)
        return StreamingResponse(stream())

    async with served(app) as client:
        assert (await client.get("/")).text == "a"
        await eventually(held, wanted=False)
    assert seen == {"endpoint": True, "stream": covered, "background": covered}


@pytest.mark.parametrize("first", ["lease", "session"])
@pytest.mark.parametrize("scope", ["request", "function"])
async def test_exit_code_of_other_dependencies(
    app: FastAPI,
    held: Held,
    namespace: str,
    first: str,
    scope: Literal["request", "function"],
) -> None:
    """A commit on exit is covered if it stands behind the lease, in scope "request"."""
    seen: list[bool] = []

    async def session() -> AsyncIterator[None]:
        yield
        seen.append(await held())

    both = [LockDependency("n", namespace=namespace, scope=scope), Depends(session)]

    @app.get("/", dependencies=both if first == "lease" else both[::-1])
    async def read() -> None: ...

    async with served(app) as client:
        assert (await client.get("/")).status_code == 200
        await eventually(held, wanted=False)
    assert seen == [first == "lease" and scope == "request"]


async def test_a_loss_in_a_stream_aborts_the_connection(
    app: FastAPI, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """The client does not take what it got so far for the whole."""

    async def stream() -> AsyncIterator[str]:
        yield "a"
        await take_away(redis, namespace)
        await asyncio.sleep(3600)

    @app.get("/", dependencies=[LockDependency("n", namespace=namespace, ttl=TTL)])
    async def read() -> StreamingResponse:
        return StreamingResponse(stream())

    async with served(app) as client, client.stream("GET", "/") as answer:
        assert answer.status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):
            await answer.aread()


@pytest.mark.parametrize("sends", ["nothing", "a body"])
async def test_a_client_that_goes_ends_its_request(
    app: FastAPI, held: Held, namespace: str, sends: str
) -> None:
    """The endpoint is cancelled and the lock is free, though nobody reads or writes."""
    began, ended = asyncio.Event(), asyncio.Event()

    @app.post("/", dependencies=[LockDependency("n", namespace=namespace)])
    async def reconcile(body: dict[str, Any] | None = None) -> None:
        began.set()
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()

    async with served(app) as client:
        json = {"much": "x" * 100_000} if sends == "a body" else None
        request = asyncio.create_task(client.post("/", json=json))
        await began.wait()
        assert await held()
        request.cancel()
        await ended.wait()
        await eventually(held, wanted=False)


async def test_a_client_that_goes_does_not_wait_on(
    app: FastAPI, redis_url: str, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """A request whose client is gone leaves the queue."""
    served_names: list[str] = []

    @app.post("/")
    async def reconcile(
        lease: Annotated[Lease, LockDependency("n", namespace=namespace, timeout=None)],
    ) -> None:
        served_names.append(lease.name)

    async def waiters() -> int:
        return int(await redis.zcard(f"aiodistlock:queue:{{{namespace}n}}"))

    async with (
        LockClient.from_url(redis_url) as elsewhere,
        served(app) as client,
        elsewhere.lock("n", namespace=namespace),
    ):
        request = asyncio.create_task(client.post("/"))
        await eventually(waiters, 1)
        request.cancel()
        await eventually(waiters, 0)
    assert served_names == []


async def test_a_thread_keeps_the_lock_of_a_client_that_went(
    app: FastAPI, held: Held, namespace: str
) -> None:
    """What cannot be stopped holds its lock to its end, also when nobody wants the answer."""
    go_on, began = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    @app.post("/", dependencies=[LockDependency("n", namespace=namespace)])
    def reconcile() -> None:
        loop.call_soon_threadsafe(began.set)
        assert go_on.wait(10)

    async with served(app) as client:
        request = asyncio.create_task(client.post("/"))
        await began.wait()
        request.cancel()
        # Long enough for the server to notice; that nothing happens has no event.
        await asyncio.sleep(0.1)
        assert await held()
        go_on.set()
        await eventually(held, wanted=False)


async def test_background_tasks_outlive_the_client(
    app: FastAPI, held: Held, namespace: str
) -> None:
    """Servers report the end of a response as the client's leaving: that ends nothing."""
    done = asyncio.Event()

    async def background() -> None:
        # The time in which the watch hears that the response is over.
        await asyncio.sleep(0.1)
        assert await held()
        done.set()

    @app.post("/", dependencies=[LockDependency("n", namespace=namespace)])
    async def reconcile(tasks: BackgroundTasks) -> None:
        tasks.add_task(background)

    async with served(app) as client:
        assert (await client.post("/")).status_code == 200
        await done.wait()


async def test_two_locks_of_different_scope(app: FastAPI, namespace: str) -> None:
    """Locks of one request need not be left in the reverse order."""
    inner = LockDependency("a", namespace=namespace, scope="function")
    outer = LockDependency("b", namespace=namespace)

    @app.get("/")
    async def read(a: Annotated[Lease, inner], b: Annotated[Lease, outer]) -> list[str]:
        return [a.name, b.name]

    async with called(app) as client:
        assert (await client.get("/")).json() == ["a", "b"]
