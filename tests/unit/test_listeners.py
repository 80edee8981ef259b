"""Who is told, how a listener is added and removed, and what one that fails does: nothing."""

import asyncio
import gc
import logging
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from aiodistlock import (
    Acquired,
    AsyncLock,
    LockClient,
    LockEvent,
    Waiting,
    add_listener,
    remove_listener,
)
from tests.redis.clients import closing
from tests.stories import Told


async def _visit(client: LockClient) -> None:
    async with client.lock("wallet"):
        pass


async def test_each_client_has_listeners_of_its_own() -> None:
    """What one client's locks do is not told to another's listeners."""
    ours, theirs = Told(), Told()
    async with LockClient.in_memory() as here, LockClient.in_memory() as there:
        here.add_listener(ours)
        there.add_listener(theirs)
        await _visit(here)
    assert (ours.order, theirs.order) == ("W1 A1 R1", "")


async def test_a_listener_of_the_process_hears_all_clients() -> None:
    """Also those that were there before; and once, however often it was added."""
    told = Told()
    async with LockClient.in_memory() as client:
        await _visit(client)
        client.add_listener(told)
        client.add_listener(told)
        add_listener(told)
        add_listener(told)
        try:
            await _visit(client)
            async with LockClient.in_memory() as later:
                await _visit(later)
            client.remove_listener(told)
            await _visit(client)
        finally:
            remove_listener(told)
        await _visit(client)
        remove_listener(told)
    assert told.order == "W1 A1 R1 W2 A2 R2 W3 A3 R3"


async def test_a_lock_built_on_a_redis_has_the_listeners_of_the_process(
    redis_url: str, namespace: str
) -> None:
    """Its client is built behind the scenes, so nobody could add one to that."""
    told = Told()
    add_listener(told)
    try:
        async with (
            closing(Redis.from_url(redis_url)) as redis,
            AsyncLock(redis, "n", namespace=namespace),
        ):
            pass
    finally:
        remove_listener(told)
    assert told.order == "W1 A1 R1"


async def test_a_client_takes_listeners_when_it_is_made(redis_url: str, namespace: str) -> None:
    """Those are the first to hear of its locks."""
    told = Told()
    async with (
        LockClient.from_url(redis_url, listeners=[told]) as client,
        client.lock("n", namespace=namespace),
    ):
        pass
    assert told.order == "W1 A1 R1"


async def _awaits(event: LockEvent) -> None: ...


@pytest.mark.parametrize("what", ["me", _awaits])
def test_what_cannot_be_called_is_no_listener(redis_url: str, what: object) -> None:
    """It is refused at once, with what is wrong; so is what somebody would have to await."""
    client = LockClient.in_memory()
    adders: list[Callable[[Any], object]] = [
        client.add_listener,
        add_listener,
        lambda listener: LockClient.from_url(redis_url, listeners=[listener]),
    ]
    for add in adders:
        with pytest.raises(TypeError, match=f"callable that takes an event, .* not {what!r}"):
            add(what)


async def test_waiting_is_told_in_the_callers_context() -> None:
    """In the task that wants the lock, so that a listener sees the caller's context."""
    tasks: list[asyncio.Task[object] | None] = []

    def listener(event: LockEvent) -> None:
        if isinstance(event, Waiting):
            tasks.append(asyncio.current_task())

    async with LockClient.in_memory() as client:
        client.add_listener(listener)
        visits = [asyncio.create_task(_visit(client)) for _ in range(3)]
        await asyncio.gather(*visits)
    assert tasks == visits


@pytest.mark.parametrize("error", [RuntimeError("no"), asyncio.CancelledError("no")])
async def test_a_listener_that_fails_harms_nobody(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """Locks work, other listeners hear all, and the log has its first error only."""
    told = Told()

    def failing(event: LockEvent) -> None:
        raise error

    async with LockClient.in_memory() as client:
        client.add_listener(failing)
        client.add_listener(told)
        for _ in range(3):
            await asyncio.gather(_visit(client), _visit(client))
    assert told.stories == ["WAR", "WHAR"] * 3
    (logged,) = caplog.records
    assert (logged.name, logged.levelname) == ("aiodistlock", "ERROR")
    assert "failing" in logged.getMessage()
    assert logged.exc_info is not None
    assert logged.exc_info[1] is error


async def test_a_listener_may_add_and_remove_listeners() -> None:
    """Those that are told at this moment stay the same."""
    told = Told()

    def swaps(event: LockEvent) -> None:
        client.remove_listener(swaps)
        client.add_listener(told)

    async with LockClient.in_memory() as client:
        client.add_listener(swaps)
        await _visit(client)
        await _visit(client)
    assert told.order == "W1 A1 R1"


async def test_an_event_cannot_be_changed() -> None:
    """Listeners share it."""
    told = Told()
    async with LockClient.in_memory() as client:
        client.add_listener(told)
        await _visit(client)
    event = told.only(Acquired)
    with pytest.raises(AttributeError):
        event.waited = 0.0  # type: ignore[misc]  # that is what must fail
    assert not hasattr(event, "__dict__")


async def test_nobody_listens_and_nothing_is_told() -> None:
    """Without a listener there is no story of an acquisition, whether or not one was before."""
    told = Told()
    async with LockClient.in_memory() as client:
        client.add_listener(told)
        client.remove_listener(told)
        async with client.lock("n") as lease:
            assert lease._process_lease.story is None


async def test_a_forgotten_client_is_not_kept_by_its_listeners() -> None:
    """Nor by those of the process: its listeners go with it."""
    client = LockClient.in_memory()
    client.add_listener(Told())
    await _visit(client)
    listeners = weakref.ref(client._listeners)
    await client.aclose()
    del client
    gc.collect()
    # The collector has the loop stop what the client had: two turns.
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gc.collect()
    assert listeners() is None


async def test_the_log_tells_each_story_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    """One line for each event, as soon as the level says so, and none with a token."""
    caplog.set_level(logging.INFO, "aiodistlock")
    async with LockClient.in_memory() as client:
        await _visit(client)
        assert caplog.messages == []
        caplog.set_level(logging.DEBUG, "aiodistlock")
        lock = client.lock("wallet")
        async with lock as lease:
            token = lease.token
            waiting = asyncio.create_task(_visit(client))
            await asyncio.sleep(0)
            assert await lock.try_acquire() is None
            await lease.extend(20.0)
        await waiting
    told = [message.split(" ", 1)[1] for message in caplog.messages]
    starts = [
        "waiting for 'wallet' (lock), timeout None",
        "acquired 'wallet' after ",
        "waiting for 'wallet' (lock), timeout None",
        "waiting for 'wallet' (lock), timeout 0",
        "abandoned 'wallet' after ",
        "renewed 'wallet', ",
        "released 'wallet' after ",
        "'wallet' handed over from a task here",
        "acquired 'wallet' after ",
        "released 'wallet' after ",
    ]
    assert len(told) == len(starts)
    assert [message[: len(start)] for message, start in zip(told, starts, strict=True)] == starts
    assert {record.levelname for record in caplog.records} == {"DEBUG"}
    assert token not in caplog.text
