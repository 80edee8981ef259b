"""One hostile value, put wherever others can put one: it is told bounded and escaped.

It steers a terminal, turns text around, begins another line of a log, has markup of the
command line's own library, is no UTF-8 in part, and is two megabytes long.
"""

import asyncio
import logging
import pickle
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio.to_thread
import pytest
import redis as redis_sync
from redis.asyncio import Redis
from redis.exceptions import RedisError

from aiodistlock import (
    AcquireTimeout,
    AsyncLock,
    LockClient,
    LockEvent,
    StoreUnavailable,
    add_listener,
    remove_listener,
)
from aiodistlock.compat.redis_py import RedisPyLock
from aiodistlock.core.keys import LockKeys
from aiodistlock.protocol.grant_message import read_grant
from tests.integrations.lock_command import command as run
from tests.redis.clients import NEVER, closing

STEERING = "[red]evil[/red]\x1b]0;owned\x07\x1b[2J\x7f\x9b31m\u202e\u2028\nFORGED\r"
HOSTILE = STEERING.encode() + b"\xff\xfe" + b"A" * 2_000_000

MOST = 20_000
"""Characters of everything that is told of it together, at most."""


def harmless(told: str, most: int = MOST) -> str:
    """Check what a user, a log or a terminal gets to see."""
    assert len(told) <= most, f"{len(told)} characters"
    for line in told.splitlines():
        assert not line.startswith("FORGED")
    for line in told.split("\n"):
        assert line.isprintable(), ascii(line)[:2000]
    return told


@pytest.fixture(params=[2, 3])
async def client(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[Redis]:
    """A user's client."""
    async with closing(Redis.from_url(redis_url, protocol=request.param)) as redis:
        yield redis


@dataclass
class Planted:
    """Where the value was put."""

    namespace: str
    keys: LockKeys
    redis: redis_sync.Redis


@pytest.fixture
def planted(redis_url: str, namespace: str) -> Iterator[Planted]:
    """The value as a lock's holder, and as the token of who waits for it."""
    keys = LockKeys("wallet", namespace)
    with redis_sync.Redis.from_url(redis_url) as redis:
        record = b"1000 inbox " + HOSTILE.translate(None, b" \n\r")
        redis.set(keys.key, HOSTILE, px=60_000)
        redis.zadd(keys.queue, {record: 1.0, HOSTILE: 2.0})
        try:
            yield Planted(namespace, keys, redis)
        finally:
            redis.delete(keys.key, keys.queue)


@pytest.mark.parametrize("timeout", [0, 1.0])
async def test_a_timeout_tells_a_hostile_holder(
    client: Redis, planted: Planted, timeout: float
) -> None:
    """In its message, its traceback, its facts, and pickled."""
    with pytest.raises(AcquireTimeout) as caught:
        await AsyncLock(client, "wallet", namespace=planted.namespace).acquire(timeout)
    error = caught.value
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own
    for each in (error, copy):
        assert "evil" in harmless(str(each), 1000)
        assert "\\x1b" in harmless(repr(each), 1000).replace("\\\\", "\\")
        harmless("".join(traceback.format_exception_only(each)), 1000)
    assert error.holder is not None
    assert len(error.holder) < 2000


async def test_a_look_tells_a_hostile_holder_and_its_waiters(
    client: Redis, planted: Planted
) -> None:
    """They are data, but no more than anybody needs; printed, they are escaped."""
    info = await AsyncLock(client, "wallet", namespace=planted.namespace).inspect()
    assert info.holder is not None
    assert info.holder.startswith("[red]")
    harmless(repr(info))


async def test_a_drop_in_lock_passes_a_hostile_holder_over(client: Redis, planted: Planted) -> None:
    """It is refused, and what it raises does not repeat the value."""
    lock = client.lock(planted.keys.key, timeout=10, lock_class=RedisPyLock)
    assert not await lock.acquire(blocking=False)
    lock.local.token = b"mine"
    for act in (lock.release, lock.reacquire, lambda: lock.extend(1)):
        with pytest.raises(RedisError) as caught:
            await act()
        harmless(str(caught.value), 1000)


@pytest.mark.parametrize(
    "args",
    [
        ("ls",),
        ("ls", "--json"),
        ("inspect", "wallet"),
        ("inspect", "wallet", "--json"),
        ("top", "--once"),
        ("top", "--once", "--json"),
        ("run", "wallet", "--timeout", "0", "--", "true"),
        ("release", "wallet", "--force", "--yes"),
    ],
    ids=" ".join,
)
def test_a_command_tells_a_hostile_holder(
    redis_url: str, planted: Planted, args: tuple[str, ...]
) -> None:
    """On both streams, as a table, as JSON, or as an error."""
    command, *rest = args
    told = run(redis_url, command, "--namespace", planted.namespace, *rest)
    assert "evil" in harmless(told.stdout + told.stderr)
    assert "[red]" in told.stdout + told.stderr


@pytest.mark.parametrize("args", [("ls",), ("top", "--once")], ids=" ".join)
def test_a_command_tells_a_hostile_name(
    redis_url: str, namespace: str, args: tuple[str, ...]
) -> None:
    """A key that anybody wrote into the namespace; one that is no UTF-8 is no lock's."""
    text = f"{namespace}{STEERING}{'A' * 100_000}".encode()
    with redis_sync.Redis.from_url(redis_url) as redis:
        redis.set(text, "somebody", px=60_000)
        redis.set(text + b"\xff", "somebody", px=60_000)
        try:
            told = run(redis_url, *args, "--namespace", namespace)
        finally:
            redis.delete(text, text + b"\xff")
    assert (told.returncode, told.stderr) == (0, "")
    # A table is as wide as its widest name where it is piped.
    assert "evil" in harmless(told.stdout, 200_000 if args == ("ls",) else MOST)


async def test_a_hostile_message_is_logged_harmlessly(
    client: Redis, namespace: str, planted: Planted, caplog: pytest.LogCaptureFixture
) -> None:
    """Anybody may publish to an inbox: what is no grant, and grants of what is no lock."""
    lock = AsyncLock(client, "wallet", namespace=namespace, backoff=NEVER)
    waiting = asyncio.create_task(lock.acquire(timeout=20))
    records: list[Any] = []
    while len(records) < 3:
        records = await client.zrange(planted.keys.queue, 0, -1)
    inbox = next(each for each in records if b"aiodistlock:inbox:" in each[:200]).split(b" ")[1]
    for message in (HOSTILE, b"1 2 3 " + b"x" * 100 + b" " + HOSTILE):
        assert await client.publish(inbox, message) == 1
    while caplog.text.count("evil") < 2:
        await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    for record in caplog.records:
        harmless(record.getMessage())


def test_a_message_of_any_bytes_is_no_grant(caplog: pytest.LogCaptureFixture) -> None:
    """It is told, and raises nothing."""
    assert read_grant(HOSTILE, b"secret") is None
    harmless(caplog.messages[-1], 1000)


@asynccontextmanager
async def hostile_server() -> AsyncIterator[str]:
    """Answer every command of RESP2 with the value, as an error."""
    told = HOSTILE.translate(None, b"\r\n")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                if line.startswith(b"*"):
                    writer.write(b"-ERR " + told + b"\r\n")
        except ConnectionError:
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1") as server:
        port = server.sockets[0].getsockname()[1]
        yield f"redis://127.0.0.1:{port}?protocol=2"


@pytest.mark.parametrize("nodes", [1, 3])
async def test_a_servers_hostile_error_is_told_harmlessly(
    nodes: int, caplog: pytest.LogCaptureFixture
) -> None:
    """In the error, its causes and their traceback, in the log, and in events."""
    caplog.set_level(logging.DEBUG)
    events: list[LockEvent] = []
    add_listener(events.append)
    try:
        async with hostile_server() as one, hostile_server() as two, hostile_server() as three:
            urls: str | list[str] = one if nodes == 1 else [one, two, three]
            async with LockClient.from_url(urls, unavailable_after=10) as locks:
                with pytest.raises(StoreUnavailable) as caught:
                    await locks.lock("wallet").acquire(timeout=20)
                assert "evil" in str(caught.value)
                harmless("".join(traceback.format_exception(caught.value)))
                harmless(str(caught.value))
                for cause in caught.value.causes:
                    harmless(str(cause))
                    harmless(repr(cause))
                with pytest.raises(StoreUnavailable) as looked:
                    await locks.lock("wallet").inspect()
                harmless(str(looked.value))
    finally:
        remove_listener(events.append)
    assert events
    for event in events:
        harmless(repr(event))
    for record in caplog.records:
        harmless(record.getMessage())


@pytest.mark.parametrize("command", ["ls", "inspect", "top", "release", "run", "doctor"])
async def test_a_command_tells_a_servers_hostile_error(command: str) -> None:
    """In one line on stderr, or as a finding."""
    more: dict[str, Any] = {
        "inspect": ("wallet",),
        "release": ("wallet", "--force", "--yes"),
        "run": ("wallet", "--timeout", "0.5", "--", "true"),
        "top": ("--once",),
    }
    async with hostile_server() as url:
        told = await anyio.to_thread.run_sync(lambda: run(url, command, *more.get(command, ())))
    assert told.returncode != 0
    harmless(told.stdout + told.stderr)
