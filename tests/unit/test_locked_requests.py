"""The ASGI middleware, where a server's timing would decide what is seen."""

import asyncio
import contextlib
from typing import Any

import pytest

from aiodistlock import LeaseLost, LockClient
from aiodistlock.integrations.asgi import (
    App,
    LockedRequestMiddleware,
    Message,
    Receive,
    Scope,
    Send,
    covered,
    watch_client,
)
from tests.faults.world import lose

CHUNK = {"type": "http.request", "body": b"x", "more_body": True}
GONE = {"type": "http.disconnect"}


async def run(app: App, receive: Receive, send: Send) -> None:
    """Serve one request."""
    await LockedRequestMiddleware(app)({"type": "http"}, receive, send)


class Client:
    """A client that says what it is to say, and then nothing."""

    def __init__(self, messages: list[Message]) -> None:
        self.said = 0
        self.messages = messages
        self.heard: list[Any] = []

    async def receive(self) -> Message:
        """Say the next message."""
        if self.said == len(self.messages):
            await asyncio.Event().wait()
        self.said += 1
        return self.messages[self.said - 1]

    async def send(self, message: Message) -> None:
        """Hear."""
        self.heard.append(message.get("status", message["type"]))


async def turns() -> None:
    """Let the watch get as far as it wants to."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_little_is_read_ahead() -> None:
    """A long body that nobody reads stays with the server; read, it comes in order."""
    client = Client([{**CHUNK, "body": bytes([n])} for n in range(100)])

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        watch_client(scope)
        await turns()
        assert client.said == 4
        got = [await receive() for _ in range(100)]
        assert [message["body"][0] for message in got] == list(range(100))

    await run(app, client.receive, client.send)


async def test_a_gone_client_is_answered_nothing() -> None:
    """The application is cancelled; outer middleware sees a response all the same."""
    client = Client([CHUNK, GONE])

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        watch_client(scope)
        await asyncio.sleep(3600)

    await run(app, client.receive, client.send)
    assert client.heard == [499, "http.response.body"]


async def test_a_server_may_say_that_the_client_is_gone() -> None:
    """What is sent to nobody may be an ``OSError``, which is nobody's error either."""

    async def refuse(_: Message) -> None:
        raise OSError("the client is gone")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        watch_client(scope)
        await asyncio.sleep(3600)

    await run(app, Client([GONE]).receive, refuse)


async def test_an_application_that_will_not_be_cancelled_answers_itself() -> None:
    """It swallows the cancellation and responds: nobody begins a second response."""
    client = Client([GONE])

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        watch_client(scope)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        await send({"type": "http.response.start", "status": 200})
        await asyncio.sleep(3600)

    await run(app, client.receive, client.send)
    assert client.heard == [200]


async def test_an_application_may_see_the_client_go() -> None:
    """Once the response has begun that is the application's business, often as it asks."""
    client = Client([GONE])

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        watch_client(scope)
        await send({"type": "http.response.start", "status": 200})
        await turns()
        assert [await receive() for _ in range(3)] == [GONE] * 3

    await run(app, client.receive, client.send)
    assert client.heard == [200]


async def test_who_reads_already_goes_on_reading() -> None:
    """A read under way when the watch begins gets what it waits for."""
    said = asyncio.Event()
    readers = most = 0

    async def receive_late() -> Message:
        nonlocal readers, most
        readers += 1
        most = max(most, readers)
        await said.wait()
        readers -= 1
        return CHUNK

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        read = asyncio.create_task(anext_of(receive))
        await turns()
        watch_client(scope)
        await turns()
        said.set()
        assert await read == CHUNK

    await run(app, receive_late, Client([]).send)
    assert most == 1, "servers are not asked twice at a time"


async def anext_of(receive: Receive) -> Message:
    """Receive, as a task."""
    return await receive()


@pytest.mark.parametrize("listens", ["before", "after"])
async def test_a_server_that_fails_is_heard_by_the_application(listens: str) -> None:
    """An error of the server's ``receive`` does not get lost in the watch."""

    async def broken() -> Message:
        await asyncio.sleep(0)
        raise OSError("the server is broken")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        watch_client(scope)
        if listens == "after":
            await turns()
        with pytest.raises(OSError, match="broken"):
            await receive()

    await run(app, broken, Client([]).send)


@pytest.mark.parametrize("error", [OSError("mine"), LeaseLost("mine", "expired", 7)])
async def test_an_applications_error_passes(error: Exception) -> None:
    """Only what follows our own 503 is kept from the server."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise error

    with pytest.raises(type(error), match="mine"):
        await run(app, Client([]).receive, Client([]).send)


async def test_a_response_under_a_lost_lease_is_a_503_that_says_when_to_come_again() -> None:
    """Whatever framework is above, or none: the server is told what theirs would tell it."""
    heard: list[Message] = []

    async def hear(message: Message) -> None:
        heard.append(message)

    async with LockClient.in_memory() as locks:
        lease = await locks.lock("n").acquire()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            with covered(scope, [lease]):
                lose(lease)
                await send({"type": "http.response.start", "status": 200, "headers": []})

        await run(app, Client([]).receive, hear)
    start, body = heard
    headers = dict(start["headers"])
    assert (start["status"], headers[b"Retry-After"]) == (503, b"1")
    assert headers[b"content-length"] == b"%d" % len(body["body"])
