"""Replies with the right tag and another shape, from a real server behind a proxy."""

import asyncio
from contextlib import suppress

import pytest
import redis.asyncio as redis_asyncio
from anyio import fail_after

from aiodistlock import LockClient, StoreUnavailable
from tests.faults.world import SCRIPTS, client, load_scripts, nothing_left
from tests.proxy import Action, ChaosProxy, Frame, Replace, on

SHAPES = {
    "too short": b"*2\r\n:1\r\n<tag>",
    "too long": b"*7\r\n:1\r\n<tag>:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n",
    "other types": b"*4\r\n:1\r\n<tag>$3\r\none\r\n*0\r\n",
    "no such code": b"*2\r\n:99\r\n<tag>",
    "a code of no type": b"*2\r\n*0\r\n<tag>",
    "no reply of a script's": b"+OK\r\n",
}


@pytest.fixture(params=[3, 2], ids=["resp3", "resp2"])
def protocol(request: pytest.FixtureRequest) -> int:
    """Which RESP is spoken."""
    version: int = request.param
    return version


@pytest.fixture
def scripted(proxy: ChaosProxy) -> ChaosProxy:
    """A proxy that knows our scripts by name."""
    proxy.script_names.update(SCRIPTS)
    return proxy


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["ACQUIRE", "RENEW", "RELEASE", "INSPECT"])
async def test_what_cannot_be_read_is_asked_again(  # noqa: PLR0917  # fixtures
    scripted: ChaosProxy,
    protocol: int,
    redis: redis_asyncio.Redis,
    namespace: str,
    name: str,
    shape: str,
) -> None:
    """The call goes out anew over another connection, and has the effect of one."""
    await load_scripts(redis)
    scripted.rules = [on("reply", name, Replace(SHAPES[shape]), number=1)]
    with fail_after(10):
        async with client(scripted.url, protocol=protocol) as locks:
            lock = locks.lock("wallet", namespace=namespace)
            lease = await lock.acquire()
            await lease.extend(5.0)
            assert lease.is_held
            assert (await lock.inspect()).fencing_token == lease.fencing_token
            await lease.release()
            assert not await lock.locked()
    await nothing_left(redis, namespace)


async def test_a_server_that_answers_nonsense_for_good_is_unavailable(
    scripted: ChaosProxy, protocol: int, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """After ``unavailable_after``, and the error says what came."""
    await load_scripts(redis)

    def rule(frame: Frame) -> Action | None:
        return (
            Replace(SHAPES["other types"])
            if (frame.kind, frame.name) == ("reply", "ACQUIRE")
            else None
        )

    scripted.rules = [rule]
    with fail_after(10):
        async with client(scripted.url, protocol=protocol, unavailable_after=0.5) as locks:
            with pytest.raises(StoreUnavailable, match=r"cannot be read.*b'one'"):
                await locks.lock("wallet", namespace=namespace).acquire()
            scripted.rules = []
            await nothing_left_of(locks, namespace)


async def nothing_left_of(locks: LockClient, namespace: str) -> None:
    """Wait until what was asked for in vain is undone, and the server is used again."""
    lock = locks.lock("wallet", namespace=namespace)
    while await lock.locked():
        await asyncio.sleep(0.01)
    async with lock:
        assert await lock.locked()


async def test_what_is_asked_between_two_attempts_to_connect_is_answered(
    scripted: ChaosProxy, protocol: int, redis: redis_asyncio.Redis, namespace: str
) -> None:
    """However often it failed before: the pauses are short beside ``unavailable_after``."""
    await load_scripts(redis)
    scripted.rules = [on("reply", "INSPECT", Replace(SHAPES["too short"]))]
    with fail_after(20):
        async with client(scripted.url, protocol=protocol, unavailable_after=0.2) as locks:
            lock = locks.lock("wallet", namespace=namespace)
            while scripted.connections < 9:
                with suppress(StoreUnavailable):
                    await lock.inspect()
            scripted.rules = []
            assert (await lock.inspect()).holder is None
