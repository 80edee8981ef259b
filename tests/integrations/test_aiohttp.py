"""aiohttp: locked handlers and middleware, on a real Redis."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import redis.asyncio as redis_asyncio
from aiohttp import ClientConnectionError, ClientPayloadError, ClientSession, web
from aiohttp.typedefs import Middleware

from aiodistlock import LockClient
from aiodistlock.integrations.aiohttp import (
    LEASE,
    LOCKS,
    PERMIT,
    lock_middleware,
    locked_handler,
    permit_handler,
    permit_middleware,
    setup_locks,
)
from aiodistlock.testing.discovery import free_port
from tests.faults.world import eventually

TTL = 1.2
"""Renewed, and so found lost, within 0.1 s."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def app_of(redis_url: str, handler: Handler | type[web.View], path: str = "/") -> web.Application:
    """Build an application with one route for all methods, set up."""
    app = web.Application()
    setup_locks(app, redis_url)
    app.router.add_route("*", path, handler)
    return app


@asynccontextmanager
async def served(
    app: web.Application, *, handler_cancellation: bool = False
) -> AsyncIterator[ClientSession]:
    """Serve an application on a port of its own, as ``run_app`` does, and call it.

    aiohttp's own TestServer has another default: it cancels handlers.
    """
    runner = web.AppRunner(app, handler_cancellation=handler_cancellation)
    try:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        async with ClientSession(f"http://{host}:{port}") as session:
            yield session
    finally:
        await runner.cleanup()


async def call(client: ClientSession) -> None:
    """Make a request, in a task to be cancelled."""
    await client.get("/")


async def name_of(request: web.Request) -> web.Response:
    """Answer with the name of the lease."""
    return web.json_response(request[LEASE].name)


@pytest.mark.parametrize("kind", ["function", "view's method", "view", "object's method"])
async def test_a_handler_runs_under_its_lock(
    redis_url: str, elsewhere: LockClient, namespace: str, kind: str
) -> None:
    """All kinds of handlers have their lease in the request; contention is a 423."""
    locked = locked_handler("{wallet_id}:{header[x-tenant]}", namespace=namespace, timeout=0)

    class Whole(web.View):
        async def post(self) -> web.Response:
            return await name_of(self.request)

    class Method(web.View):
        @locked
        async def post(self) -> web.Response:
            return await name_of(self.request)

    class Service:
        @locked
        async def post(self, request: web.Request) -> web.Response:
            return await name_of(request)

    handlers: dict[str, Handler | type[web.View]] = {
        "function": locked(name_of),
        "view": locked(Whole),
        "view's method": Method,
        "object's method": Service().post,
    }
    headers = {"X-Tenant": "acme"}
    async with served(app_of(redis_url, handlers[kind], r"/{wallet_id:\d+}")) as client:
        answer = await client.post("/42", headers=headers)
        assert await answer.json() == "42:acme"
        async with elsewhere.lock("42:acme", namespace=namespace, ttl=6.95, auto_renew=False):
            answer = await client.post("/42", headers=headers)
        assert answer.status == 423
        assert answer.headers["retry-after"] == "7"
        assert answer.content_type == "application/problem+json"
        body = await answer.json()
        assert (body["title"], body["status"]) == ("Locked", 423)
        assert (await client.post("/42")).status == 422


async def test_a_middleware_locks_routes(
    redis_url: str, elsewhere: LockClient, namespace: str
) -> None:
    """Those that have the parameters, for the methods that change something."""

    async def handler(request: web.Request) -> web.Response:
        return web.json_response(LEASE in request)

    app = web.Application(
        middlewares=[lock_middleware("wallet:{wallet_id}", namespace=namespace, timeout=0)]
    )
    setup_locks(app, redis_url)
    app.router.add_route("*", "/wallets/{wallet_id}", handler)
    app.router.add_route("*", "/health", handler)
    async with served(app) as client:
        for method, url, locked in [
            ("POST", "/wallets/42", True),
            ("PUT", "/wallets/42", True),
            ("GET", "/wallets/42", False),
            ("POST", "/health", False),
        ]:
            answer = await client.request(method, url)
            assert await answer.json() is locked, (method, url)
        assert (await client.post("/none")).status == 404
        async with elsewhere.lock("wallet:42", namespace=namespace):
            assert (await client.post("/wallets/42")).status == 423
            assert (await client.get("/wallets/42")).status == 200


@pytest.mark.parametrize("kind", ["handler", "view", "middleware"])
async def test_so_many_requests_have_a_permit_and_429_is_for_others(
    redis_url: str, elsewhere: LockClient, namespace: str, kind: str
) -> None:
    """Its lease has a slot, and stands beside that of a lock; who has none comes again later."""
    permitted = permit_handler("gpu:{kind}", 2, timeout=0, namespace=namespace)

    @locked_handler("image:{header[x-image]}", namespace=namespace)
    async def draw(request: web.Request) -> web.Response:
        return web.json_response([request[PERMIT].slot, request[LEASE].name])

    class View(web.View):
        async def post(self) -> web.StreamResponse:
            return await draw(self.request)

    app = web.Application()
    if kind == "middleware":
        app.middlewares.append(permit_middleware("gpu:{kind}", 2, timeout=0, namespace=namespace))
    setup_locks(app, redis_url)
    handlers: dict[str, Handler | type[web.View]] = {
        "handler": permitted(draw),
        "view": permitted(View),
        "middleware": draw,
    }
    app.router.add_route("POST", "/{kind}", handlers[kind])
    semaphore = elsewhere.semaphore("gpu:big", 2, namespace=namespace)
    async with served(app) as client:
        headers = {"X-Image": "7"}
        answer = await client.post("/big", headers=headers)
        assert await answer.json() == [0, "image:7"]
        async with semaphore:
            answer = await client.post("/big", headers=headers)
            assert await answer.json() == [1, "image:7"]
            async with semaphore:
                answer = await client.post("/big", headers=headers)
                assert answer.status == 429
                assert answer.headers["retry-after"] == "1"
                assert answer.content_type == "application/problem+json"
                assert (await client.post("/small", headers=headers)).status == 200
        assert (await client.post("/big")).status == 422
        assert (await semaphore.inspect()).leases == ()


async def test_both_of_two_decorators_are_checked_at_the_start(redis_url: str) -> None:
    """The inner one, too."""
    handler = permit_handler("{wallet_id}", 2)(locked_handler("{walet_id}")(name_of))
    app = app_of(redis_url, handler, "/{wallet_id}")
    with pytest.raises(ValueError, match="walet_id"):
        async with served(app):
            pass


async def test_a_middleware_of_a_function(redis_url: str, namespace: str) -> None:
    """The function names the lock or wants none; methods are the caller's choice."""

    async def handler(request: web.Request) -> web.Response:
        return web.json_response(LEASE in request)

    def name(request: web.Request) -> str | None:
        return request.query.get("n")

    locking = lock_middleware(name, methods=["get"], namespace=namespace)
    app = web.Application(middlewares=[locking])
    setup_locks(app, redis_url)
    app.router.add_route("*", "/", handler)
    async with served(app) as client:
        assert await (await client.get("/?n=a")).json() is True
        assert await (await client.get("/")).json() is False
        assert await (await client.post("/?n=a")).json() is False


async def test_each_lock_of_a_request_has_its_lease(redis_url: str, namespace: str) -> None:
    """What stands between a middleware's lock and a handler's has the former, before and after."""
    seen: list[str] = []

    @web.middleware
    async def between(request: web.Request, handler: Handler) -> web.StreamResponse:
        seen.append(request[LEASE].name)
        answer = await handler(request)
        request[LEASE].check()
        seen.append(request[LEASE].name)
        return answer

    locking = lock_middleware("outer", namespace=namespace)
    app = web.Application(middlewares=[locking, between])
    setup_locks(app, redis_url)
    app.router.add_post("/", locked_handler("inner", namespace=namespace)(name_of))
    async with served(app) as client:
        assert await (await client.post("/")).json() == "inner"
    assert seen == ["outer", "outer"]


async def test_a_middleware_does_not_lock_what_has_no_route(redis_url: str) -> None:
    """A 404 and a 405 come as ever, also where the request has not what the name needs."""
    app = web.Application(middlewares=[lock_middleware("{header[x-tenant]}")])
    setup_locks(app, redis_url)
    app.router.add_post("/", name_of)
    async with served(app) as client:
        assert (await client.post("/")).status == 422
        assert (await client.post("/none")).status == 404
        assert (await client.put("/")).status == 405


async def test_middlewares_run_in_their_order(
    redis_url: str, elsewhere: LockClient, namespace: str
) -> None:
    """Those behind the lock's run under it, those before it do not, and see its 423."""
    seen: list[tuple[str, bool]] = []

    def noting(where: str) -> Middleware:
        @web.middleware
        async def note(request: web.Request, handler: Handler) -> web.StreamResponse:
            seen.append((where, LEASE in request))
            answer = await handler(request)
            answer.headers["x-status"] = str(answer.status)
            return answer

        return note

    locking = lock_middleware("n", namespace=namespace, timeout=0)
    app = web.Application(middlewares=[noting("before"), locking, noting("behind")])
    setup_locks(app, redis_url)
    app.router.add_post("/", name_of)
    async with served(app) as client:
        assert (await client.post("/")).status == 200
        assert seen == [("before", False), ("behind", True)]
        async with elsewhere.lock("n", namespace=namespace):
            assert (await client.post("/")).headers["x-status"] == "423"


async def test_a_store_that_is_down_is_answered_with_503() -> None:
    """Redis that does not answer is no contention."""
    app = web.Application()
    setup_locks(app, f"redis://127.0.0.1:{free_port()}", unavailable_after=0.2)
    app.router.add_get("/", locked_handler("n")(name_of))
    async with served(app) as client:
        answer = await client.get("/")
        assert answer.status == 503
        assert answer.headers["retry-after"] == "1"
        assert (await answer.json())["detail"] == "The lock service is unavailable."


async def test_a_loss_cancels_the_handler(
    redis_url: str, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """The handler is cancelled where it waits, and the answer is 503."""
    ended: list[str] = []

    @locked_handler("n", namespace=namespace, ttl=TTL)
    async def handler(request: web.Request) -> web.Response:
        await redis.delete(f"{namespace}n")
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append("cancelled")
        raise AssertionError

    async with served(app_of(redis_url, handler)) as client:
        assert (await client.get("/")).status == 503
        assert ended == ["cancelled"]


async def test_a_loss_that_shows_at_the_release_is_answered_with_503(
    redis_url: str, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """The response is not sent until the release has confirmed the lease."""

    @locked_handler("n", namespace=namespace)
    async def handler(request: web.Request) -> web.Response:
        await redis.delete(f"{namespace}n")
        return web.Response()

    async with served(app_of(redis_url, handler)) as client:
        assert (await client.get("/")).status == 503


@pytest.mark.parametrize("wrote", [True, False], ids=["wrote", "only prepared"])
async def test_a_loss_in_a_stream_aborts_the_connection(
    redis_url: str, redis: redis_asyncio.Redis, namespace: str, wrote: bool
) -> None:
    """What a handler streams is covered, and not taken for the whole after a loss."""

    @locked_handler("n", namespace=namespace, ttl=TTL)
    async def handler(request: web.Request) -> web.StreamResponse:
        # The headers of the latter wait for its body.
        response = web.StreamResponse() if wrote else web.Response(text="whole")
        await response.prepare(request)
        if wrote:
            await response.write(b"a")
        await redis.delete(f"{namespace}n")
        await asyncio.sleep(3600)
        return response

    async with served(app_of(redis_url, handler)) as client:
        with pytest.raises((ClientPayloadError, ClientConnectionError)):
            await (await client.get("/")).read()
        # Nor is there a second response behind the first.
        url = client._base_url
        assert url is not None
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while more := await reader.read(1000):
                received += more
        assert received.count(b"HTTP/1.1") == int(wrote)
        writer.close()


async def test_another_locks_error_in_a_stream_aborts_the_connection(
    redis_url: str, elsewhere: LockClient, namespace: str
) -> None:
    """A lock that the handler takes by hand has no second response either."""

    @locked_handler("n", namespace=namespace)
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"a")
        async with request.config_dict[LOCKS].lock("other", namespace=namespace, timeout=0):
            raise AssertionError

    async with (
        served(app_of(redis_url, handler)) as client,
        elsewhere.lock("other", namespace=namespace),
    ):
        with pytest.raises((ClientPayloadError, ClientConnectionError)):
            await (await client.get("/")).read()


@pytest.mark.parametrize("cancellation", [False, True], ids=["default", "handler_cancellation"])
async def test_a_client_that_goes_ends_its_request(
    redis_url: str, elsewhere: LockClient, namespace: str, cancellation: bool
) -> None:
    """The handler is cancelled and the lock is free, whatever aiohttp does by itself."""
    began, ended = asyncio.Event(), asyncio.Event()

    @locked_handler("n", namespace=namespace)
    async def handler(request: web.Request) -> web.Response:
        began.set()
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()
        raise AssertionError

    app = app_of(redis_url, handler)
    async with served(app, handler_cancellation=cancellation) as client:
        request = asyncio.create_task(call(client))
        await began.wait()
        request.cancel()
        await ended.wait()
        await eventually(elsewhere.lock("n", namespace=namespace).locked, wanted=False)


async def test_a_client_that_goes_does_not_wait_on(
    redis_url: str, redis: redis_asyncio.Redis, elsewhere: LockClient, namespace: str
) -> None:
    """A request whose client is gone leaves the queue."""
    handler = locked_handler("n", namespace=namespace, timeout=None)(name_of)

    async def waiters() -> int:
        return int(await redis.zcard(f"aiodistlock:queue:{{{namespace}n}}"))

    async with (
        elsewhere.lock("n", namespace=namespace),
        served(app_of(redis_url, handler)) as client,
    ):
        request = asyncio.create_task(call(client))
        await eventually(waiters, 1)
        request.cancel()
        await eventually(waiters, 0)


@pytest.mark.parametrize("below", [False, True], ids=["app", "sub-application"])
@pytest.mark.parametrize("kind", ["handler", "view", "middleware"])
async def test_a_wrong_field_fails_the_start(redis_url: str, kind: str, below: bool) -> None:
    """Templates are checked against the paths when the app starts."""
    locked = locked_handler("{walet_id}")

    class View(web.View):
        @locked
        async def post(self) -> web.Response:
            raise AssertionError

    middlewares = [lock_middleware("{walet_id}")] if kind == "middleware" else []
    app = web.Application(middlewares=middlewares)
    handlers: dict[str, Handler | type[web.View]] = {"handler": locked(name_of), "view": View}
    app.router.add_route("*", "/wallets/{wallet_id}", handlers.get(kind, name_of))
    root = web.Application() if below else app
    if below:
        root.add_subapp("/sub", app)
    setup_locks(root, redis_url)
    with pytest.raises(ValueError, match=r"'walet_id'.* has wallet_id"):
        await web.AppRunner(root).setup()


async def test_sub_applications_use_the_locks_above(redis_url: str, namespace: str) -> None:
    """One set-up serves all applications below."""
    sub = web.Application()
    sub.router.add_get("/", locked_handler("n", namespace=namespace)(name_of))
    app = web.Application()
    app.add_subapp("/sub", sub)
    setup_locks(app, redis_url)
    async with served(app) as client:
        assert await (await client.get("/sub/")).json() == "n"


async def test_the_client_closes_with_the_app(redis_url: str, elsewhere: LockClient) -> None:
    """Ours does; one that was passed belongs to who made it."""
    app = web.Application()
    setup_locks(app, redis_url)
    async with served(app):
        ours = app[LOCKS]
        assert not await ours.lock("n").locked()
    assert ours._closed
    app = web.Application()
    setup_locks(app, elsewhere)
    async with served(app):
        assert app[LOCKS] is elsewhere
    assert not elsewhere._closed
    with pytest.raises(TypeError, match="options"):
        setup_locks(app, elsewhere, unavailable_after=1.0)


async def test_an_app_that_is_not_set_up_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """The error names the call that is missing."""
    app = web.Application()
    app.router.add_get("/", locked_handler("n")(name_of))
    async with served(app) as client:
        assert (await client.get("/")).status == 500
    assert "setup_locks" in caplog.text


def test_what_cannot_be_locked_is_refused() -> None:
    """Wrong options, templates and ``def`` handlers fail when decorating."""

    def handler(request: web.Request) -> web.Response:
        raise AssertionError

    with pytest.raises(TypeError, match="coroutine"):
        locked_handler("n")(handler)
    for make in (locked_handler, lock_middleware):
        with pytest.raises(ValueError, match="ttl"):
            make("n", ttl=0)
        with pytest.raises(ValueError, match="template"):
            make("{")


async def test_a_handlers_own_answer_passes(
    redis_url: str, elsewhere: LockClient, namespace: str
) -> None:
    """What a handler raises is answered as ever, and the lock is released."""

    @locked_handler("n", namespace=namespace)
    async def handler(request: web.Request) -> web.Response:
        raise web.HTTPNotFound

    async with served(app_of(redis_url, handler)) as client:
        assert (await client.get("/")).status == 404
    assert not await elsewhere.lock("n", namespace=namespace).locked()


async def test_a_name_has_the_text_of_the_path(redis_url: str, namespace: str) -> None:
    """002 and 2 are two locks, unless a function makes them one."""
    by_text = locked_handler("{wallet_id}", namespace=namespace)(name_of)
    by_number = locked_handler(lambda r: f"{int(r.match_info['wallet_id'])}", namespace=namespace)
    async with served(app_of(redis_url, by_text, r"/{wallet_id:\d+}")) as client:
        assert await (await client.post("/002")).json() == "002"
    async with served(app_of(redis_url, by_number(name_of), r"/{wallet_id:\d+}")) as client:
        assert await (await client.post("/002")).json() == "2"


def test_one_error_names_all_that_is_wrong() -> None:
    """Template and options, whatever is declared with them."""
    for make in (locked_handler, lock_middleware):
        with pytest.raises(ValueError, match="template") as caught:
            make("{", ttl=-1, timeout=-1, namespace="aiodistlock:")
        for word in ("template", "ttl", "timeout", "reserved"):
            assert word in str(caught.value), caught.value
