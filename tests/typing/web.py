"""The types that users of the web integrations see: checked as public_api.py, never run."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, assert_type

from aiohttp import web
from fastapi import Depends, FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from aiodistlock import Lease, LockClient, SemaphoreLease
from aiodistlock.integrations import aiohttp, fastapi, starlette

Wallet = Annotated[
    Lease, fastapi.LockDependency("wallet:{wallet_id}", ttl=5.0, timeout=2.0, scope="function")
]
Locks = Annotated[LockClient, Depends(fastapi.get_locks)]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Stand for a user's lifespan."""
    yield


FastAPI(lifespan=fastapi.lock_lifespan("redis://localhost", lifespan))
app = FastAPI(lifespan=lifespan)
fastapi.setup_locks(app, ["redis://a", "redis://b"], unavailable_after=2.0)
Starlette(lifespan=starlette.lock_lifespan(LockClient.in_memory()))


@app.post("/", dependencies=[fastapi.LockDependency(lambda: "n")])
async def reconcile(wallet_id: int, lease: Wallet, locks: Locks) -> None:
    """What an endpoint is given."""
    assert_type(lease, Lease)
    assert_type(locks, LockClient)


Both = Annotated[tuple[Lease, ...], fastapi.LockDependency("{source}", "{target}", timeout=2.0)]
starlette.locked_endpoint("{source}", "{target}", ttl=5.0)
aiohttp.locked_handler("{source}", "{target}", ttl=5.0)
aiohttp.lock_middleware("{source}", "{target}", methods=["POST"])
aiohttp.permit_middleware("gpu", 4, methods=["POST"], permits=2, ttl=5.0)

fastapi.LockDependency("n", scope="session")  # type: ignore[arg-type]
fastapi.LockDependency(42)  # type: ignore[arg-type]
fastapi.LockDependency("n", ttl="wrong")  # type: ignore[arg-type]
fastapi.LockDependency("n", nonsense=4)  # type: ignore[call-arg]
fastapi.setup_locks(app, 42)  # type: ignore[arg-type]
fastapi.setup_locks(app, "redis://h", nonsense=4)  # type: ignore[call-arg]
fastapi.lock_lifespan("redis://h", unavailable_after="1")  # type: ignore[arg-type]
starlette.locked_endpoint("n", ttl="wrong")  # type: ignore[arg-type]
starlette.locked_endpoint("n", nonsense=4)  # type: ignore[call-arg]
starlette.permit_endpoint("n", 2, linger=1.0)  # type: ignore[call-arg]
starlette.permit_endpoint("n")  # type: ignore[call-arg]
starlette.setup_locks(Starlette(), "redis://h", ttl=4)  # type: ignore[call-arg]
aiohttp.locked_handler("n", ttl="wrong")  # type: ignore[arg-type]
aiohttp.locked_handler("n", nonsense=4)  # type: ignore[call-arg]
aiohttp.lock_middleware("n", nonsense=4)  # type: ignore[call-arg]
aiohttp.permit_handler("n", 2, linger=1.0)  # type: ignore[call-arg]
aiohttp.permit_middleware("n", "2")  # type: ignore[arg-type]
aiohttp.setup_locks(web.Application(), "redis://h", ttl=4)  # type: ignore[call-arg]


@starlette.permit_endpoint("gpu", 4, timeout=1.0)
@starlette.locked_endpoint("wallet:{wallet_id}", ttl=5.0)
async def endpoint(request: Request) -> Response:
    """Stand for a Starlette endpoint."""
    assert_type(starlette.get_locks(request), LockClient)
    return Response()


@aiohttp.permit_handler("gpu", 4, timeout=1.0)
@aiohttp.locked_handler("wallet:{wallet_id}", ttl=5.0)
async def handler(request: web.Request) -> web.Response:
    """Stand for an aiohttp handler."""
    assert_type(request[aiohttp.LEASE], Lease)
    assert_type(request[aiohttp.PERMIT], SemaphoreLease)
    assert_type(request.app[aiohttp.LOCKS], LockClient)
    return web.Response()


async def decorated(request: Request, aiohttp_request: web.Request) -> None:
    """The decorators keep the signature."""
    assert_type(await endpoint(request), Response)
    assert_type(await handler(aiohttp_request), web.Response)
    await handler(42)  # type: ignore[arg-type]


middleware = aiohttp.lock_middleware(
    lambda request: request.query.get("n"), methods=["POST"], timeout=None
)
aiohttp.setup_locks(web.Application(middlewares=[middleware]), "redis://localhost")
