"""Each script once on each kind of server that is at hand, from Redis 6.2 to Valkey.

``AIODISTLOCK_EXTRA_SERVERS`` names further server binaries, separated by colons.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.exceptions import ResponseError

from aiodistlock.testing.discovery import find_wheel_server
from aiodistlock.testing.embedded import EmbeddedRedis
from tests.redis.driver import OOM, TTL, Inbox, Scripts, record

DEAD = "inbox:dead"


def _binaries() -> list[Path]:
    named = os.environ.get("AIODISTLOCK_EXTRA_SERVERS", "").split(":")
    binaries = [Path(path) for path in named if path]
    if wheel := find_wheel_server():
        binaries.append(wheel)
    return binaries


@pytest.fixture(scope="module", params=_binaries(), ids=str)
def server(request: pytest.FixtureRequest) -> Iterator[EmbeddedRedis]:
    """A server of each kind; one that was named and does not start is an error."""
    with EmbeddedRedis(binary=request.param) as server:
        yield server


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def there(
    server: EmbeddedRedis, request: pytest.FixtureRequest, batched: bool
) -> Iterator[Scripts]:
    """The scripts on that server, which forgot them, over each protocol."""
    with redis.Redis.from_url(server.url, protocol=request.param) as client:
        client.execute_command("FLUSHALL")
        client.execute_command("SCRIPT", "FLUSH")
        yield Scripts(client, "lock:wallet:42", batched=batched)
        client.execute_command("CONFIG", "SET", "maxmemory", 0)


def test_every_script_answers_as_its_header_says(there: Scripts) -> None:
    """All codes of all scripts, with the types and the precision of their values."""
    lock = there
    with Inbox(lock.client) as inbox:
        assert lock.inspect() == ("DONE", "", -2, 0, [])
        before = lock.server_us
        code, fence, now = lock.acquire("a")
        assert code == "GRANTED"
        assert before <= now == fence == lock.counter <= lock.server_us
        assert lock.acquire("a")[:2] == ("GRANTED", fence)
        assert lock.acquire("b")[::2] == ("HELD", "a")
        code, remaining, holder, now, position = lock.acquire("b", inbox.channel)
        assert (code, holder, position) == ("QUEUED", "a", 0)
        assert 0 < remaining <= TTL
        assert fence < now <= lock.server_us
        assert lock.renew("a") == ("DONE", 1)
        assert lock.renew("x") == lock.release("x") == lock.pass_on("x", "y", DEAD) == ("OTHER",)
        assert lock.acquire("c", DEAD)[4] == 1
        assert lock.pass_on("a", "a2", inbox.channel)[2::2] == ("b", 1)
        assert lock.inspect()[4][1] == record(inbox.channel, "a2")
        assert lock.release("b") == ("DONE", 1)
        granted = [message.split(" ") for message in inbox.messages()]
        assert [(each[3], each[4]) for each in granted] == [("b", lock.key), ("a2", lock.key)]
        assert fence < int(granted[0][0]) < int(granted[1][0]) == lock.counter
        assert lock.pass_on("a", "a2", inbox.channel)[:2] == ("GRANTED", lock.counter)
        code, fresh, _ = lock.pass_on("a2", "a3", inbox.channel, lock.counter + 10**9)
        assert (code, fresh) == ("DONE", lock.counter)
        assert lock.abandon("a2", inbox.channel) == ("DONE", 1)
        assert lock.abandon("a2", inbox.channel) == ("DONE", 0)
        assert lock.renew("a") == lock.release("a") == lock.pass_on("a", "z", DEAD) == ("GONE",)
        assert lock.acquire("d")[1] > fresh
        assert lock.release("d", fresh + 10**9) == ("DONE", 0)
        assert lock.exists() == [lock.fence]


def test_failures_leave_nothing_half_done(there: Scripts) -> None:
    """Wrong types and want of memory, as on the server that all other tests use."""
    lock = there
    with Inbox(lock.client) as inbox:
        lock.command("RPUSH", lock.fence, "x")
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            lock.acquire("a")
        assert lock.exists() == [lock.fence]
        lock.command("DEL", lock.fence)
        lock.command("CONFIG", "SET", "maxmemory", 1)
        with pytest.raises(ResponseError, match=OOM):
            lock.acquire("a")
        assert lock.exists() == []
        lock.command("CONFIG", "SET", "maxmemory", 0)
        _, fence, _ = lock.acquire("a")
        lock.acquire("b", inbox.channel)
        lock.command("CONFIG", "SET", "maxmemory", 1)
        with pytest.raises(ResponseError, match=OOM):
            lock.pass_on("a", "a2", inbox.channel)
        assert lock.renew("a") == ("DONE", 1)
        assert lock.release("a", fence + 3) == ("DONE", 0)
        assert (lock.holder, lock.waiters) == (None, ["b"])
