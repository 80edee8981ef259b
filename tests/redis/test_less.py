"""Clients of valkey-py, and proxies that know fewer commands than Redis."""

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any

import pytest
import valkey
import valkey.asyncio as valkey_asyncio
from anyio import fail_after
from redis.asyncio import RedisCluster

from aiodistlock import AsyncLock, LockClient, StoreUnavailable
from aiodistlock.testing.discovery import LOOPBACK
from aiodistlock.testing.embedded import EmbeddedRedis
from tests.deployments.cluster import Cluster
from tests.faults.world import client
from tests.proxy import ChaosProxy, Do, Replace, on


@pytest.fixture(params=[3, 2], ids=["resp3", "resp2"])
def protocol(request: pytest.FixtureRequest) -> int:
    """Which RESP is spoken."""
    version: int = request.param
    return version


async def _hand_over(here: AsyncLock, there: AsyncLock) -> None:
    """Have one process get the lock after the other, which waits for it."""
    lease = await here.acquire()
    waiter = asyncio.create_task(there.acquire())
    await asyncio.sleep(0.1)  # it waits, or polls
    await lease.release()
    after = await waiter
    assert after.fencing_token > lease.fencing_token
    await after.release()


async def test_clients_of_valkey_py_are_taken(
    redis_url: str, namespace: str, protocol: int
) -> None:
    """As those of redis-py are, and locks of both exclude each other."""
    source: Any = valkey_asyncio.Valkey.from_url(redis_url, protocol=protocol)
    async with LockClient(source) as here, client(redis_url, protocol=protocol) as there:
        with fail_after(10):
            await _hand_over(
                here.lock("wallet", namespace=namespace), there.lock("wallet", namespace=namespace)
            )


async def test_a_cluster_client_of_valkey_py_is_taken(
    cluster: Cluster, cluster_namespace: str
) -> None:
    """By its settings, as redis-py's is."""
    source: Any = valkey_asyncio.ValkeyCluster.from_url(
        cluster.url.replace("redis+cluster", "redis").split(",")[0]
    )
    async with LockClient(source) as here, LockClient.from_url(cluster.url) as there:
        with fail_after(20):
            await _hand_over(
                *(each.lock("wallet", namespace=cluster_namespace) for each in (here, there))
            )


async def test_a_wrong_password_of_valkey_py_is_told_at_once(
    embedded_redis: EmbeddedRedis, protocol: int
) -> None:
    """Its errors have classes of their own, and mean the same."""
    async with client(embedded_redis.url) as plain:
        await plain.lock("warm").locked()
    source: Any = valkey_asyncio.Valkey.from_url(
        embedded_redis.url, protocol=protocol, username="nobody", password="wrong"
    )
    async with LockClient(source) as locks:
        with fail_after(5), pytest.raises(StoreUnavailable, match=r"(?i)auth|wrongpass|invalid"):
            await locks.lock("wallet").acquire(timeout=60.0)


async def test_what_no_lock_can_be_kept_on_is_refused() -> None:
    """A blocking client of valkey-py, and valkey-glide's, which has nothing of redis-py."""

    class GlideClient:
        """Has no pool."""

    blocking: Any = valkey.Valkey()
    glide: Any = GlideClient()
    with pytest.raises(TypeError, match="blocking"):
        AsyncLock(blocking, "wallet")
    with pytest.raises(TypeError, match=r"valkey-py's.*not GlideClient"):
        AsyncLock(glide, "wallet")


async def test_behind_a_proxy_that_hangs_up_at_subscribe_waiters_poll(
    proxy: ChaosProxy, namespace: str, protocol: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A few connections later it is not said any more, and the log says so once."""
    proxy.rules = [on("request", "SUBSCRIBE", Do.CUT_BEFORE)]
    began = time.monotonic()
    async with (
        client(proxy.url, protocol=protocol) as here,
        client(proxy.url, protocol=protocol) as there,
    ):
        first, second = (each.lock("wallet", namespace=namespace) for each in (here, there))
        with fail_after(20):
            for _ in range(3):
                await _hand_over(first, second)
            connections = proxy.connections
            await asyncio.sleep(1.0)  # for connections that would come again and again
    assert proxy.connections - connections <= 1
    assert proxy.connections <= 12
    told = [each for each in caplog.records if "closed behind SUBSCRIBE" in each.getMessage()]
    assert 1 <= len(told) <= 2  # of each client
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("unknown", [["HELLO"], ["CLIENT"], ["HELLO", "CLIENT", "SUBSCRIBE"]])
async def test_behind_a_proxy_that_hangs_up_at_the_handshake_less_is_said(
    proxy: ChaosProxy, namespace: str, unknown: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Neither RESP3 nor names are needed; the log says what was left out, and how to do so."""
    proxy.rules = [on("request", command, Do.CUT_BEFORE) for command in unknown]
    async with (
        client(proxy.url, client_name="here") as here,
        client(proxy.url, client_name="there") as there,
    ):
        with fail_after(30):
            await _hand_over(*(each.lock("wallet", namespace=namespace) for each in (here, there)))
    told = "\n".join(each.getMessage() for each in caplog.records)
    for command, advice in (("HELLO", "protocol=2"), ("CLIENT", "client_name=None")):
        assert (f"hung up at {command}" in told) == (command in unknown)
        assert (advice in told) == (command in unknown)


@pytest.mark.parametrize("command", ["HELLO", "CLIENT"])
async def test_a_server_without_room_is_no_proxy_that_hangs_up(
    proxy: ChaosProxy, namespace: str, command: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its word may come behind what was asked meanwhile: it is told, and nothing is left out."""
    full = Replace(b"-ERR max number of clients reached\r\n")
    proxy.rules = [on("reply", command, full)]
    async with client(proxy.url, client_name="here", unavailable_after=1.0) as locks:
        lock = locks.lock("wallet", namespace=namespace)
        with pytest.raises(StoreUnavailable, match="max number of clients reached") as caught:
            await lock.acquire()
        assert "hung up" not in str(caught.value)
        proxy.rules = []
        await (await lock.acquire()).release()
    assert "going without" not in "\n".join(each.getMessage() for each in caplog.records)


async def test_what_is_needed_is_named_where_the_proxy_hangs_up_at_it(
    redis_url: str, proxy: ChaosProxy, namespace: str
) -> None:
    """The error of a command that cannot be left out says which it was, and no secret."""
    proxy.rules = [on("request", "SELECT", Do.CUT_BEFORE)]
    url = proxy.url.rpartition("/")[0] if proxy.url.count("/") > 2 else proxy.url
    async with client(f"{url}/1", unavailable_after=1.0) as locks:
        with pytest.raises(StoreUnavailable, match=r"hung up at .*SELECT"):
            await locks.lock("wallet", namespace=namespace).acquire()
    proxy.rules = [on("request", "HELLO", Do.CUT_BEFORE), on("request", "AUTH", Do.CUT_BEFORE)]
    async with client(url, unavailable_after=1.0, username="me", password="secret") as locks:
        with pytest.raises(StoreUnavailable, match=r"hung up at (AUTH|HELLO)") as caught:
            await locks.lock("wallet", namespace=namespace).acquire()
    assert "secret" not in str(caught.value)


async def test_after_an_outage_all_is_said_again(proxy: ChaosProxy, namespace: str) -> None:
    """What hung up at everything was no proxy that knows too little, but one without a server."""
    async with client(proxy.url) as locks:
        lock = locks.lock("wallet", namespace=namespace)
        await (await lock.acquire()).release()
        proxy.rules = [on("request", "HELLO", Do.CUT_BEFORE)]
        proxy.rules += [on("request", "CLIENT", Do.CUT_BEFORE)]
        await proxy.cut()
        waiting = asyncio.create_task(lock.acquire())
        await proxy.seen("request", "HELLO", proxy.requests["HELLO"] + 3)
        await proxy.refuse()
        await asyncio.sleep(0.3)  # for one try at least
        proxy.rules = []
        said = proxy.requests["HELLO"]
        await proxy.accept()
        with fail_after(10):
            await (await waiting).release()
        assert proxy.requests["HELLO"] > said


async def test_nodes_of_a_quorum_behind_proxies_that_hang_up_at_info(
    five_nodes: list[EmbeddedRedis], namespace: str
) -> None:
    """Who they are is not known then, as where an ACL forbids to ask; they vote all the same."""
    async with AsyncExitStack() as stack:
        proxies = [
            await stack.enter_async_context(ChaosProxy.before(each.url)) for each in five_nodes[:3]
        ]
        for each in proxies:
            each.rules = [on("request", "INFO", Do.CUT_BEFORE)]
        locks = await stack.enter_async_context(LockClient.from_url([each.url for each in proxies]))
        with fail_after(20):
            await (await locks.lock("wallet", namespace=namespace).acquire()).release()


async def test_a_cluster_behind_proxies_that_hang_up_at_ssubscribe_is_polled(
    cluster: Cluster, cluster_namespace: str
) -> None:
    """As one Redis is behind one that hangs up at SUBSCRIBE; nor is CLIENT needed, or COMMAND."""
    unknown = ("SSUBSCRIBE", "CLIENT", "COMMAND")
    async with AsyncExitStack() as stack:
        ports: dict[int, int] = {}
        for node in cluster.nodes:
            rules = [on("request", command, Do.CUT_BEFORE) for command in unknown]
            proxy = await stack.enter_async_context(ChaosProxy(LOOPBACK, node.port, rules))
            ports[node.port] = proxy.port

        def remap(address: tuple[str, int]) -> tuple[str, int]:
            return LOOPBACK, ports[address[1]]

        made = []
        for _ in range(2):
            port = ports[cluster.nodes[0].port]
            redis = RedisCluster(host=LOOPBACK, port=port, address_remap=remap)
            stack.push_async_callback(redis.aclose)
            made.append(await stack.enter_async_context(LockClient(redis)))
        with fail_after(30):
            await _hand_over(*(each.lock("wallet", namespace=cluster_namespace) for each in made))
