"""The ACL lines of the page on running Redis are enough, with exactly those rights."""

import asyncio
import json
import re
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
import redis as redis_sync

from aiodistlock import LockClient, LockError, Run
from aiodistlock.testing.embedded import EmbeddedRedis
from tests.deployments.cluster import Cluster
from tests.deployments.sentinel import SentinelDeployment
from tests.integrations.doctor_command import doctor, level
from tests.integrations.lock_command import command

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "redis-for-locks.md"
USER = "locks:secret@"


def lines() -> dict[str, str]:
    """Return the lines of the page by their headings."""
    (block,) = re.findall(r"<!-- acl -->\n```text\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return dict(re.findall(r"^# (.*)\n(ACL SETUSER .*)$", block, re.MULTILINE))


def allow(heading: str, *servers: EmbeddedRedis, also: str = "") -> None:
    """Paste a line into servers, with what the page says to add; all other rights are gone."""
    _, _, user, *rights = lines()[heading].split()
    for server in servers:
        with redis_sync.Redis.from_url(server.url, protocol=2) as admin:
            known = [each for each in rights if each != "+waitaof" or has_waitaof(admin)]
            admin.execute_command("ACL", "SETUSER", user, "reset", *known, *also.split())


def has_waitaof(admin: redis_sync.Redis) -> bool:
    """Whether a server knows the command."""
    version: str = admin.info("server")["redis_version"]
    return tuple(map(int, version.split(".")[:2])) >= (7, 2)


def as_user(server: EmbeddedRedis, database: int = 0) -> str:
    """Return the URL of a server for the user."""
    return server.url.replace("://", f"://{USER}") + (f"/{database}" if database else "")


async def exchange(urls: str | Sequence[str], **options: Any) -> None:
    """Lock, wait, hand over, renew and give up, as two processes do, without a complaint."""
    with anyio.fail_after(20):
        async with AsyncExitStack() as stack:
            here, there = [
                await stack.enter_async_context(
                    LockClient.from_url(urls, unavailable_after=5, **options)
                )
                for _ in range(2)
            ]
            async with here.lock("w", ttl=5) as lease:
                waiting = asyncio.create_task(there.lock("w", ttl=5).acquire())
                await lease.extend(5)
                await there.lock("w").inspect()
                with pytest.raises(LockError):
                    await there.lock("w", timeout=0.05).acquire()
            await (await waiting).release()
            if isinstance(urls, str):
                for once in ({"at_least": 0.05}, {"every": 60.0, "on_crash": "skip"}):
                    await here.once("o", ttl=5, **once).run(checked)
                await elect(here, there)
                await share(here, there)


async def checked(run: Run) -> None:
    """Be done once."""
    run.check()


async def elect(here: LockClient, there: LockClient) -> None:
    """Lead, and have that announced to whoever observes."""
    leaders = there.election("e", ttl=60).observe()
    assert await anext(leaders) is None
    async with here.election("e", value="x", ttl=60).lead():
        while (leader := await anext(leaders)) is None or leader.value != "x":
            pass
        (observation,) = there.election("e")._lock._engine().observations.values()
        while not observation._store.hear_leaders(observation.keys):
            await asyncio.sleep(0.01)
    while await anext(leaders) is not None:
        pass
    await leaders.aclose()


async def share(here: LockClient, there: LockClient) -> None:
    """Have permits of a semaphore, and read and write, and hand all of that over."""
    one, two = (client.semaphore("s", 2, ttl=5) for client in (here, there))
    async with one.hold(permits=2) as permits:
        waiting = asyncio.create_task(two.acquire())
        await permits.extend(5)
        assert len((await two.inspect()).leases) == 1
        with pytest.raises(LockError):
            await two.acquire(timeout=0.05)
    await (await waiting).release()
    doc, same = (client.rwlock("d", ttl=5) for client in (here, there))
    async with doc.upgradeable() as lease:
        async with same.read() as reading:
            await reading.extend(5)
        await lease.upgrade()
        await lease.downgrade()
        writing = asyncio.create_task(same.write().acquire())
        with pytest.raises(LockError):
            await same.write().acquire(timeout=0.05)
    await (await writing).release()


@pytest.fixture
def server(redis_binary: Path) -> EmbeddedRedis:
    """A server of the test's own; not started yet."""
    return EmbeddedRedis(binary=redis_binary)


@pytest.mark.parametrize("protocol", [2, 3])
async def test_one_redis(server: EmbeddedRedis, protocol: int) -> None:
    """Database 0 and another one, and a client with a name."""
    with server:
        allow("one Redis", server)
        await exchange(as_user(server), protocol=protocol)
        allow("one Redis", server, also="+select +client|setname")
        await exchange(as_user(server, 3), protocol=protocol, client_name="me")


async def test_a_quorum(redis_binary: Path) -> None:
    """Three nodes, each with the line."""
    with ExitStack() as stack:
        nodes = [stack.enter_context(EmbeddedRedis(binary=redis_binary)) for _ in range(3)]
        allow("each node of a quorum", *nodes)
        await exchange([as_user(each) for each in nodes])


async def test_a_cluster(cluster: Cluster) -> None:
    """Every node, with the line."""
    if not cluster.sharded:
        pytest.skip("these commands are those of Redis 7")
    allow("each node of a Cluster", *(node.server for node in cluster.nodes))
    try:
        await exchange(cluster.url.replace("://", f"://{USER}"))
    finally:
        for node in cluster.nodes:
            node.command("ACL", "DELUSER", "locks")


@pytest.mark.bounded(90)
async def test_sentinel_and_replicas_that_acknowledge(sentinels: SentinelDeployment) -> None:
    """Two lines, for the servers and for the Sentinels, and one more right for ``ack``."""
    allow("behind Sentinel: the primary and its replicas", *sentinels.servers)
    allow("behind Sentinel: each Sentinel", *sentinels.sentinels)
    url = sentinels.url.replace("://", f"://{USER}")
    url += "?sentinel_username=locks&sentinel_password=secret"
    await exchange(url)
    allow('with ack="replicas:N"', *sentinels.servers, also="+role")
    async with LockClient.from_url(url, unavailable_after=5) as locks:
        await (await locks.lock("w", ack="replicas:1").acquire()).release()


async def test_the_disk_that_acknowledges(redis_binary: Path) -> None:
    """One more right for ``ack``."""
    with EmbeddedRedis(binary=redis_binary, args=["--appendonly", "yes"]) as server:
        allow('with ack="fsync"', server)
        with redis_sync.Redis.from_url(server.url, protocol=2) as admin:
            if not has_waitaof(admin):
                pytest.skip("WAITAOF came with Redis 7.2")
        async with LockClient.from_url(as_user(server), unavailable_after=5) as locks:
            await (await locks.lock("w", ack="fsync").acquire()).release()


@pytest.mark.bounded(90)
async def test_the_command_line(server: EmbeddedRedis) -> None:
    """``ls`` and ``inspect`` see what is there; the doctor finds nothing amiss with rights."""
    with server:
        async with LockClient.from_url(server.url) as locks, locks.lock("w"):
            allow("aiodistlock ls, inspect and top", server)
            for args in (["ls"], ["inspect", "w"]):
                done = await anyio.to_thread.run_sync(command, as_user(server), *args)
                assert (done.returncode, done.stderr) == (0, "")
                assert "pid" in done.stdout
        allow("aiodistlock doctor, on one Redis", server)
        done = await anyio.to_thread.run_sync(partial(doctor, "--json", as_user(server)))
        report = json.loads(done.stdout)
        assert level(report, "permissions") == "ok"
        assert [
            each["check"] for each in report["findings"] if each["check"] == "not checked"
        ] == []
