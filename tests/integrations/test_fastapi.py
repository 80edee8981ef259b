"""FastAPI: a lease for each request, on a real Redis."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Path, Query
from pydantic import BaseModel

from aiodistlock import Lease, LockClient, SemaphoreLease
from aiodistlock.integrations.fastapi import (
    LockDependency,
    PermitDependency,
    get_locks,
    lock_lifespan,
    setup_locks,
)
from aiodistlock.testing.discovery import free_port
from tests.integrations.asgi_server import called, served

PROBLEM = "application/problem+json"


class Filter(BaseModel):
    """Query parameters in one."""

    page: int


async def test_the_lease_is_injected_and_covers_the_endpoint(
    app: FastAPI, elsewhere: LockClient, namespace: str
) -> None:
    """The endpoint gets the lease of the name in its path; afterwards the lock is free."""

    @app.post("/wallets/{wallet_id}")
    async def reconcile(
        wallet_id: int,
        lease: Annotated[Lease, LockDependency("wallet:{wallet_id}", namespace=namespace)],
    ) -> dict[str, Any]:
        other = await elsewhere.lock("wallet:42", namespace=namespace).try_acquire()
        return {"name": lease.name, "held": lease.is_held, "other": other}

    async with called(app) as client:
        answer = await client.post("/wallets/42")
        assert answer.json() == {"name": "wallet:42", "held": True, "other": None}
        assert not await elsewhere.lock("wallet:42", namespace=namespace).locked()


@pytest.mark.parametrize("place", ["route", "router", "include", "app"])
async def test_a_lock_may_stand_in_dependencies(
    redis_url: str, elsewhere: LockClient, namespace: str, place: str
) -> None:
    """In ``dependencies`` of a route, a router, its inclusion or the app it holds as well."""
    lock = [LockDependency("wallet:{wallet_id}", namespace=namespace, timeout=0)]
    app = FastAPI(dependencies=lock if place == "app" else [])
    router = APIRouter(dependencies=lock if place == "router" else [])

    @router.get("/{wallet_id}", dependencies=lock if place == "route" else [])
    async def read() -> None: ...

    app.include_router(router, prefix="/wallets", dependencies=lock if place == "include" else [])
    setup_locks(app, redis_url)
    async with called(app) as client:
        assert (await client.get("/wallets/7")).status_code == 200
        async with elsewhere.lock("wallet:7", namespace=namespace):
            assert (await client.get("/wallets/7")).status_code == 423
            assert (await client.get("/wallets/8")).status_code == 200


async def test_so_many_requests_at_a_time_and_429_for_others(
    app: FastAPI, elsewhere: LockClient, namespace: str
) -> None:
    """The lease has a slot; who has none within the timeout is told when to come again."""
    gpu = PermitDependency("gpu:{kind}", 2, timeout=0, namespace=namespace)

    @app.get("/{kind}")
    async def draw(lease: Annotated[SemaphoreLease, gpu]) -> dict[str, Any]:
        return {"slot": lease.slot, "held": lease.is_held}

    semaphore = elsewhere.semaphore("gpu:big", 2, namespace=namespace)
    async with called(app) as client:
        assert (await client.get("/big")).json() == {"slot": 0, "held": True}
        async with semaphore:
            assert (await client.get("/big")).json() == {"slot": 1, "held": True}
            async with semaphore:
                answer = await client.get("/big")
                assert answer.status_code == 429
                assert answer.headers["retry-after"] == "1"
                assert answer.headers["content-type"] == PROBLEM
                assert (await client.get("/small")).status_code == 200
        assert (await client.get("/big")).status_code == 200
        responses = (await client.get("/openapi.json")).json()["paths"]["/{kind}"]["get"][
            "responses"
        ]
        assert "429" in responses
        assert "423" not in responses
        assert (await semaphore.inspect()).leases == ()


async def test_several_permits_are_held_for_one_request(
    app: FastAPI, elsewhere: LockClient, namespace: str
) -> None:
    """All of them or none."""
    all_of_them = PermitDependency("gpu", 2, permits=2, timeout=0, namespace=namespace)

    @app.get("/", dependencies=[all_of_them])
    async def draw() -> None: ...

    async with called(app) as client:
        assert (await client.get("/")).status_code == 200
        async with elsewhere.semaphore("gpu", 2, namespace=namespace):
            assert (await client.get("/")).status_code == 429


async def test_contention_is_answered_with_423(
    app: FastAPI, elsewhere: LockClient, namespace: str
) -> None:
    """Retry-After is the holder's remaining ttl in whole seconds, rounded up."""

    @app.get("/", dependencies=[LockDependency("n", namespace=namespace, timeout=0)])
    async def read() -> None: ...

    async with called(app) as client:
        async with elsewhere.lock("n", namespace=namespace, ttl=6.95, auto_renew=False):
            answer = await client.get("/")
        assert answer.status_code == 423
        assert answer.headers["retry-after"] == "7"
        assert answer.headers["content-type"] == PROBLEM
        assert answer.json() == {
            "type": "about:blank",
            "title": "Locked",
            "status": 423,
            "detail": "Another request holds the lock; try again in 7 s.",
        }
        assert (await client.get("/")).status_code == 200


async def test_a_request_waits_for_its_turn(app: FastAPI, namespace: str) -> None:
    """Within the timeout requests on one name are served one after the other."""
    inside = most = 0

    @app.get("/", dependencies=[LockDependency("n", namespace=namespace)])
    async def read() -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0)
        inside -= 1

    async with called(app) as client:
        answers = await asyncio.gather(*(client.get("/") for _ in range(10)))
    assert {answer.status_code for answer in answers} == {200}
    assert most == 1


async def test_requests_at_once_that_do_not_wait(app: FastAPI, namespace: str) -> None:
    """Of those that come together one is served; the others are told of contention."""
    told = asyncio.Event()

    @app.get("/", dependencies=[LockDependency("n", namespace=namespace, timeout=0)])
    async def read() -> None:
        await told.wait()

    async with called(app) as client:
        answers = []
        for answer in asyncio.as_completed([client.get("/") for _ in range(3)]):
            answers.append(await answer)
            if len(answers) == 2:
                told.set()
    assert sorted(answer.status_code for answer in answers) == [200, 423, 423]
    assert {answer.headers.get("retry-after", "1").isdigit() for answer in answers} == {True}


@pytest.mark.parametrize("timeout", [None, 0.1], ids=["unavailable", "timeout before that"])
async def test_a_store_that_is_down_is_answered_with_503(timeout: float | None) -> None:
    """Redis that does not answer is no contention, whichever limit is reached first."""
    app = FastAPI()
    unavailable_after = 0.2 if timeout is None else 5.0
    url = f"redis://127.0.0.1:{free_port()}"
    setup_locks(app, url, unavailable_after=unavailable_after)

    @app.get("/", dependencies=[LockDependency("n", timeout=timeout)])
    async def read() -> None: ...

    async with called(app) as client:
        answer = await client.get("/")
    assert answer.status_code == 503
    assert answer.headers["content-type"] == PROBLEM
    assert answer.json()["detail"] == "The lock service is unavailable."
    assert answer.headers["retry-after"] == "1"


async def test_names_are_built_from_converted_values(app: FastAPI, namespace: str) -> None:
    """042 and 42 are one wallet where the parameter is an int; defaults apply."""
    template = "{tenant}:{wallet_id}:{page}:{w}:{header[X-Region]}:{query[sort]}"
    router = APIRouter(prefix="/{tenant}")

    @router.get("/{wallet_id}")
    async def read(
        wallet_id: Annotated[int, Path(ge=1)],
        lease: Annotated[Lease, LockDependency(template, namespace=namespace)],
        w: Annotated[float, Query(alias="weight")],
        page: int = 1,
    ) -> str:
        return lease.name

    app.include_router(router, prefix="/api")
    url = "/api/acme/042?weight=1e1&sort=up"
    async with called(app) as client:
        answer = await client.get(url, headers={"x-region": "eu"})
        assert answer.json() == "acme:42:1:10.0:eu:up"
        answer = await client.get(f"{url}&page=007", headers={"x-region": "eu"})
        assert answer.json() == "acme:42:7:10.0:eu:up"
        for wrong, headers, loc in [
            ("/api/acme/x?weight=1&sort=up", {"x-region": "eu"}, ["path", "wallet_id"]),
            ("/api/acme/0?weight=1&sort=up", {"x-region": "eu"}, ["path", "wallet_id"]),
            ("/api/acme/1?sort=up", {"x-region": "eu"}, ["query", "weight"]),
        ]:
            answer = await client.get(wrong, headers=headers)
            assert answer.status_code == 422
            assert answer.json()["detail"][0]["loc"] == loc
        # What only the name needs is our problem.
        for wrong, headers, told in [
            ("/api/acme/1?weight=1", {"x-region": "eu"}, "The query parameter 'sort' is missing."),
            ("/api/acme/1?weight=1&sort=up", {}, "The header 'X-Region' is missing."),
        ]:
            answer = await client.get(wrong, headers=headers)
            assert answer.status_code == 422
            assert answer.headers["content-type"] == PROBLEM
            assert answer.json()["detail"] == told


async def test_a_value_is_found_where_fastapi_finds_it(app: FastAPI, namespace: str) -> None:
    """Under a validation alias, too, which FastAPI did not heed always."""

    @app.get("/")
    async def read(
        lease: Annotated[Lease, LockDependency("{page}", namespace=namespace)],
        page: Annotated[int, Query(validation_alias="p", default_factory=lambda: 7)],
    ) -> bool:
        return lease.name == str(page)

    async with called(app) as client:
        assert (await client.get("/?p=1")).json() is True
        assert (await client.get("/?page=1")).json() is True


async def test_the_endpoints_declaration_counts(app: FastAPI, namespace: str) -> None:
    """A dependency that reads the same parameter as something else does not name the lock."""

    def raw(page: str) -> str:
        return page

    @app.get("/", dependencies=[Depends(raw)])
    async def read(
        page: int, lease: Annotated[Lease, LockDependency("{page}", namespace=namespace)]
    ) -> str:
        return lease.name

    async with called(app) as client:
        assert (await client.get("/?page=07")).json() == "7"


@pytest.mark.parametrize("paths", [["/", "/{page}"], ["/{page}", "/"]])
async def test_an_endpoint_may_have_a_parameter_in_path_or_query(
    app: FastAPI, namespace: str, paths: list[str]
) -> None:
    """Each of its routes has its own: required in the path, with a default in the query."""

    async def read(
        lease: Annotated[Lease, LockDependency("{page}", namespace=namespace)], page: int = 5
    ) -> str:
        return lease.name

    for path in paths:
        app.get(path)(read)
    async with called(app) as client:
        for url, name in [("/", "5"), ("/?page=07", "7"), ("/08", "8"), ("/08?page=9", "8")]:
            assert (await client.get(url)).json() == name


async def test_a_function_names_the_lock(app: FastAPI, namespace: str) -> None:
    """A callable is a dependency itself: what it asks for is validated and documented."""

    def tenant_of(wallet_id: int, x_tenant: Annotated[str, Header()]) -> str:
        return f"{x_tenant}/{wallet_id}"

    @app.get("/{wallet_id}")
    async def read(
        lease: Annotated[Lease, LockDependency(tenant_of, namespace=namespace)],
    ) -> str:
        return lease.name

    async with called(app) as client:
        answer = await client.get("/07", headers={"x-tenant": "acme"})
        assert answer.json() == "acme/7"
        assert (await client.get("/07")).status_code == 422


async def test_a_function_that_returns_no_name_is_an_error(app: FastAPI) -> None:
    """It is the application's mistake, not the client's."""

    @app.get("/", dependencies=[LockDependency(lambda: 7)])
    async def read() -> None: ...

    async with called(app) as client:
        with pytest.raises(TypeError, match="must be a str, not 7"):
            await client.get("/")


async def test_a_request_that_names_nothing_lockable_is_refused(
    app: FastAPI, namespace: str
) -> None:
    """What the client sent cannot be a name: its mistake, not an internal error.

    Why it cannot is not told, as that would tell the name.
    """

    @app.get("/", dependencies=[LockDependency("{query[n]}", namespace=namespace)])
    async def read() -> None: ...

    async with called(app) as client:
        for wrong in ("", "a{b"):
            answer = await client.get("/", params={"n": wrong})
            assert answer.status_code == 422
            assert answer.headers["content-type"] == PROBLEM
            assert answer.json()["detail"] == "The request names nothing that can be locked."


@pytest.mark.parametrize("annotation", [list[int], set[str] | None, Filter])
async def test_a_field_of_more_than_one_value_fails_the_start(
    app: FastAPI, annotation: Any
) -> None:
    """A list or a model is no part of a name; that does not wait for a request to show."""

    async def read(page: Any) -> None: ...

    read.__annotations__["page"] = Annotated[annotation, Query()]
    app.get("/", dependencies=[LockDependency("{page}")])(read)
    with pytest.raises(ValueError, match=r"'page'.*a list or a model in GET /"):
        async with app.router.lifespan_context(app):
            pass


@pytest.mark.parametrize("place", ["route", "router"])
async def test_a_field_that_the_route_has_not_fails_the_start(
    app: FastAPI, redis_url: str, place: str
) -> None:
    """A typo in a template shows when the app starts, with what the route has."""
    lock = [LockDependency("wallet:{walet_id}")]
    router = APIRouter(dependencies=lock if place == "router" else [])

    @router.post("/{wallet_id}", dependencies=lock if place == "route" else [])
    async def reconcile(wallet_id: int, page: int = 1) -> None: ...

    app.include_router(router, prefix="/wallets")
    told = "'walet_id'.*POST /wallets/{wallet_id} has wallet_id, page"
    with pytest.raises(ValueError, match=told):
        async with app.router.lifespan_context(app):
            pass


def test_wrong_options_and_templates_fail_the_declaration() -> None:
    """Nothing waits for a client or a request to be found wrong."""
    for template in ("", "{", "{0}", "{}", "{header}:{header[x]}", "{a!x}"):
        with pytest.raises(ValueError, match="template"):
            LockDependency(template)
    with pytest.raises(ValueError, match="ttl"):
        LockDependency("n", ttl=0)
    with pytest.raises(ValueError, match="timeout"):
        LockDependency("n", timeout=-1)
    with pytest.raises(TypeError, match="tll"):
        LockDependency("n", tll=5.0)  # type: ignore[call-arg]  # wrong: that is the test


async def test_options_that_do_not_fit_the_client_fail_the_start(redis_url: str) -> None:
    """What only the client can tell is checked when the app starts."""
    app = FastAPI(dependencies=[LockDependency("n", ttl=50.0)])
    setup_locks(app, [redis_url], quarantine=20.0)

    @app.get("/")
    async def read() -> None: ...

    with pytest.raises(ValueError, match="quarantine"):
        async with app.router.lifespan_context(app):
            pass


def test_openapi_lists_the_answers(app: FastAPI) -> None:
    """Routes with a lock list 422, 423 and 503, without the app having started."""

    @app.post("/locked", dependencies=[LockDependency("{header[x-tenant]}")])
    async def locked() -> None: ...

    @app.post("/own", dependencies=[LockDependency("n")], responses={423: {"description": "own"}})
    async def own() -> None: ...

    @app.post("/free")
    async def free() -> None: ...

    for _ in range(2):
        paths = app.openapi()["paths"]
        responses = paths["/locked"]["post"]["responses"]
        assert set(responses) == {"200", "422", "423", "503"}
        assert list(responses["423"]["content"]) == [PROBLEM]
        assert "Retry-After" in responses["423"]["headers"]
        (parameter,) = paths["/locked"]["post"]["parameters"]
        assert (parameter["name"], parameter["required"]) == ("x-tenant", True)
        assert parameter["schema"]["type"] == "string"
        assert set(responses["422"]["content"]) == {"application/json", PROBLEM}
        assert "Retry-After" in responses["503"]["headers"]
        assert paths["/own"]["post"]["responses"]["423"] == {"description": "own"}
        assert list(paths["/own"]["post"]["responses"]["422"]["content"]) == [PROBLEM]
        assert set(paths["/free"]["post"]["responses"]) == {"200"}


@pytest.mark.parametrize("mounted", [False, True])
async def test_other_locks_do_without_a_lifespan(mounted: bool) -> None:
    """A test that overrides ``get_locks`` need not start the app, nor have its Redis."""
    app = inner = FastAPI()
    setup_locks(app, "redis://127.0.0.1:1")
    if mounted:
        inner = FastAPI()
        app.mount("/inner", inner)

    @inner.get("/{wallet_id}")
    async def read(
        wallet_id: int, lease: Annotated[Lease, LockDependency("{wallet_id}:{header[x-t]}")]
    ) -> str:
        return lease.name

    async with LockClient.in_memory() as locks:
        inner.dependency_overrides[get_locks] = lambda: locks
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            answer = await client.get(f"{'/inner' * mounted}/007", headers={"x-t": "a"})
    assert answer.json() == "7:a"


async def test_the_client_lives_around_the_lifespan_of_the_app(redis_url: str) -> None:
    """An app's own lifespan may use the locks; they close after it, if they are ours."""
    told: list[str] = []

    @asynccontextmanager
    async def own(app: FastAPI) -> AsyncIterator[dict[str, str]]:
        assert not await app.state.locks.lock("lifespan").locked()
        told.append("up")
        yield {"from": "lifespan"}
        assert not await app.state.locks.lock("lifespan").locked()
        told.append("down")

    app = FastAPI(lifespan=own)
    setup_locks(app, redis_url)

    @app.get("/")
    async def read(locks: Annotated[LockClient, Depends(get_locks)]) -> bool:
        return locks is app.state.locks

    async with served(app) as client:
        assert (await client.get("/")).json() is True
        locks: LockClient = app.state.locks
    assert told == ["up", "down"]
    assert locks._closed
    assert not hasattr(app.state, "locks")


async def test_a_client_of_ones_own_stays_open(elsewhere: LockClient, namespace: str) -> None:
    """A LockClient that was passed belongs to who made it."""
    app = FastAPI()
    setup_locks(app, elsewhere)
    for _ in range(2):
        async with app.router.lifespan_context(app):
            assert app.state.locks is elsewhere
    async with elsewhere.lock("n", namespace=namespace):
        pass
    with pytest.raises(TypeError, match="options"):
        setup_locks(FastAPI(), elsewhere, unavailable_after=1.0)


async def test_a_lifespan_alone_opens_the_client(redis_url: str) -> None:
    """``lock_lifespan`` serves apps that use the locks by hand."""
    app = FastAPI(lifespan=lock_lifespan(redis_url))

    @app.get("/")
    async def read(locks: Annotated[LockClient, Depends(get_locks)]) -> bool:
        return await locks.lock("n").locked()

    async with called(app) as client:
        assert (await client.get("/")).json() is False


async def test_an_app_that_is_not_set_up_says_so(redis_url: str) -> None:
    """Forgotten calls are errors that name the call."""
    app = FastAPI(dependencies=[LockDependency("n")])

    @app.get("/")
    async def read() -> None: ...

    async with called(app) as client:
        with pytest.raises(RuntimeError, match="setup_locks"):
            await client.get("/")
    app.router.lifespan_context = lock_lifespan(redis_url)
    async with called(app) as client:
        with pytest.raises(RuntimeError, match="setup_locks"):
            await client.get("/")


async def test_an_endpoints_own_error_passes(
    app: FastAPI, elsewhere: LockClient, namespace: str
) -> None:
    """What an endpoint raises is answered as ever, and the lock is released."""

    @app.get("/", dependencies=[LockDependency("n", namespace=namespace)])
    async def read() -> None:
        raise HTTPException(404, "no such wallet")

    async with called(app) as client:
        assert (await client.get("/")).status_code == 404
    assert not await elsewhere.lock("n", namespace=namespace).locked()


async def test_a_lock_by_hand_is_answered_alike(
    app: FastAPI, elsewhere: LockClient, namespace: str
) -> None:
    """An AcquireTimeout that an endpoint lets pass is a 423, too."""

    @app.get("/")
    async def read(locks: Annotated[LockClient, Depends(get_locks)]) -> None:
        async with locks.lock("n", namespace=namespace, timeout=0):
            raise AssertionError

    async with called(app) as client, elsewhere.lock("n", namespace=namespace):
        assert (await client.get("/")).status_code == 423


def test_one_error_names_all_that_is_wrong() -> None:
    """Template and options, whatever is declared with them."""
    for make in (LockDependency,):
        with pytest.raises(ValueError, match="template") as caught:
            make("{", ttl=-1, timeout=-1, namespace="aiodistlock:")
        for word in ("template", "ttl", "timeout", "reserved"):
            assert word in str(caught.value), caught.value
